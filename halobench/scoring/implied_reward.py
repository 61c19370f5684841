"""The implied reward: does the policy, against its reference, prefer what people preferred?"""

from __future__ import annotations

import numpy as np

from halobench.data.rows import Row
from halobench.feedback import Prompt
from halobench.models.logprobs import ScoredModel
from halobench.models.reference import score_rows, with_reference
from halobench.registry import SCORERS
from halobench.scoring.base import (
    NO_DECODE,
    Contender,
    Scorer,
    ScoringResult,
    first_pair,
    make_rows,
    summarise,
)
from halobench.worlds.base import World

DIRECTIONS: dict[str, bool | None] = {
    "accuracy": True,
    "accuracy_gold": True,
    "longer": None,
    "margin": True,
    "chosen_drift": None,
    "rejected_drift": None,
}
_TIE = 1e-9


@SCORERS.register(
    "implied_reward", source="Rafailov et al. 2023, arXiv:2305.18290; Lambert et al. 2024, arXiv:2403.13787"
)
class ImpliedReward(Scorer):
    """Accuracy and margin of r = log pi_theta / pi_ref on held-out labelled pairs, pi_ref the reference.

    A pair is right when r is higher for the chosen answer; equal counts half. `longer` is the accuracy of
    always preferring the answer with more tokens, the baseline to beat. Drifts are the mean r of either side,
    in nats. The policy is asked with its control token where it has one, the reference with the plain prompt.
    """

    def score(self, contender: Contender) -> ScoringResult:
        """Score the first labelled pair of every prompt."""
        prompts = contender.materials.prompts.rows
        if contender.reference is None:
            return ScoringResult(make_rows([]), [])
        contender.encoder.read(
            prompts=(row.prompt for row in prompts),
            completions=(text for row in prompts for text in first_pair(row)),
        )
        plain = [self._rows(contender, index, ask=False) for index in range(len(prompts))]
        asked = [self._rows(contender, index, ask=True) for index in range(len(prompts))]
        scored = with_reference(
            [row for pair in plain for row in pair],
            contender.reference,
            contender.materials.artifacts,
            precision=contender.recipe.precision,
            trust=contender.recipe.model.trust,
        )
        logps = score_rows(
            ScoredModel(contender.model),
            [row for pair in asked for row in pair],
            report=lambda done, total: contender.report("implied reward", done, total),
        )
        drift = np.array(
            [
                values.astype(np.float64).sum() - np.asarray(row.reference, np.float64).sum()
                for values, row in zip(logps, scored, strict=True)
            ]
        ).reshape(-1, 2)
        records = []
        for row, (chosen, rejected), pair in zip(prompts, drift, plain, strict=True):
            lengths = [len(side.completion) for side in pair]
            values = {
                "accuracy": _half_step(chosen - rejected),
                "longer": _half_step(lengths[0] - lengths[1]),
                "margin": chosen - rejected,
                "chosen_drift": chosen,
                "rejected_drift": rejected,
            }
            gold = self._gold_difference(contender, row.prompt, first_pair(row))
            if gold is not None and abs(gold) > _TIE:  # a pair that is tied in truth has no right order
                values["accuracy_gold"] = _half_step((chosen - rejected) * np.sign(gold))
            records += [
                (row.prompt_id, NO_DECODE, 0, metric, float(value)) for metric, value in values.items()
            ]
        rows = make_rows(records)
        return ScoringResult(rows, summarise(rows, DIRECTIONS, task="pairs"))

    def _rows(self, contender: Contender, index: int, *, ask: bool) -> tuple[Row, Row]:
        """The two sides of a pair, for the policy (asked) or the reference."""
        row = contender.materials.prompts.rows[index]
        plain = contender.encoder.prompt(row.prompt)
        prompt = contender.prompt_tokens(row.prompt) if ask else plain
        # cut by the plain prompt, so that both models score the same tokens
        chosen, rejected = (contender.encoder.completion(text, len(plain)) for text in first_pair(row))
        return Row(prompt, chosen, True), Row(prompt, rejected, False)

    def _gold_difference(self, contender: Contender, prompt: Prompt, pair: tuple[str, str]) -> float | None:
        world = contender.materials.source
        if not isinstance(world, World):
            return None
        chosen, rejected = (
            sum(world.utility(prompt, f"{text} {world.end_marker}").values()) for text in pair
        )
        return chosen - rejected


def _half_step(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)
