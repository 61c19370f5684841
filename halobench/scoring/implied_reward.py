"""The implied reward: does the policy, against its reference, prefer what people preferred?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from halobench.data.rows import Row
from halobench.errors import DataError
from halobench.feedback import EvaluationPrompt
from halobench.models.logprobs import ScoredModel
from halobench.models.reference import reference_logps, score_rows
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
    "auc": True,
    "auc_longer": None,
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
    in nats. Where answers were never paired, `auc` is the chance that r is higher for a desirable answer than
    for an undesirable one, of other prompts too (DeLong et al. 1988), and `auc_longer` that of the number of
    tokens. The policy is asked with its control token where it has one, the reference with the plain prompt.
    """

    def score(self, contender: Contender) -> ScoringResult:
        """Score the first preferred and the first other answer of every prompt, whichever it has."""
        prompts = contender.materials.prompts.rows
        if contender.reference is None:
            return ScoringResult(make_rows([]), [])
        sides = [
            (index, desirable, text)
            for index, row in enumerate(prompts)
            for desirable, texts in ((True, row.chosen), (False, row.rejected))
            for text in texts[:1]
        ]
        # cut by the plain prompt, so that both models score the same tokens
        encoded = contender.encoder.encode([(prompts[index].prompt, text) for index, _, text in sides])
        plain = [Row(tokens.prompt, tokens.completion, True) for tokens in encoded]
        asked = [
            row._replace(prompt=contender.prompt_tokens(prompts[index].prompt))
            for row, (index, _, _) in zip(plain, sides, strict=True)
        ]
        reference, starts = reference_logps(
            plain,
            contender.reference,
            contender.materials.artifacts,
            precision=contender.recipe.precision,
            trust=contender.recipe.model.trust,
        )
        logps = score_rows(
            ScoredModel(contender.model),
            asked,
            report=lambda done, total: contender.report("implied reward", done, total),
        )
        found: list[dict[bool, _Side]] = [{} for _ in prompts]
        for (index, desirable, _), values, start in zip(sides, logps, starts, strict=True):
            before = reference[start : start + len(values)]
            drift = values.astype(np.float64).sum() - before.astype(np.float64).sum()
            found[index][desirable] = _Side(float(drift), len(values))
        records = []
        for prompt, pair in zip(prompts, found, strict=True):
            metrics = _pair_metrics(pair[True], pair[False]) if len(pair) == 2 else {}
            gold = self._gold_difference(contender, prompt) if metrics else None
            if gold is not None and abs(gold) > _TIE:  # a pair that is tied in truth has no right order
                metrics["accuracy_gold"] = _half_step(metrics["margin"] * np.sign(gold))
            records += [(prompt.prompt_id, metric, value) for metric, value in metrics.items()]
        if any(len(pair) == 1 for pair in found):
            ids = [prompt.prompt_id for prompt in prompts]
            for metric, name in (("auc", "drift"), ("auc_longer", "length")):
                records += _auc_records(ids, found, metric, name)
        table = make_rows([(i, NO_DECODE, 0, metric, float(value)) for i, metric, value in records])
        return ScoringResult(table, summarise(table, DIRECTIONS, task="pairs"))

    def _gold_difference(self, contender: Contender, row: EvaluationPrompt) -> float | None:
        world = contender.materials.source
        if not isinstance(world, World):
            return None
        chosen, rejected = (
            sum(world.utility(row.prompt, f"{text} {world.end_marker}").values()) for text in first_pair(row)
        )
        return chosen - rejected


class _Side(NamedTuple):
    """A held-out answer: its implied reward in nats, and its tokens."""

    drift: float
    length: int


def _pair_metrics(chosen: _Side, rejected: _Side) -> dict[str, float]:
    return {
        "accuracy": _half_step(chosen.drift - rejected.drift),
        "longer": _half_step(chosen.length - rejected.length),
        "margin": chosen.drift - rejected.drift,
        "chosen_drift": chosen.drift,
        "rejected_drift": rejected.drift,
    }


def _auc_records(
    prompt_ids: Sequence[str], found: Sequence[dict[bool, _Side]], metric: str, name: str
) -> list[tuple[str, str, float]]:
    """Influence of each prompt on the AUC; the mean over prompts is the AUC, and its error DeLong's.

    With V_i the share of the other label's answers that answer i is on the right side of, and w the prompts
    over the answers of its label: AUC + sum over the prompt's answers of w (V_i - AUC).
    """
    values = {
        label: np.array([getattr(pair[label], name) for pair in found if label in pair], np.float64)
        for label in (True, False)
    }
    if not all(len(side) for side in values.values()):
        raise DataError("the held-out answers have one label only; the AUC needs both")
    placements = {label: iter(_placements(values[label], values[not label], label)) for label in values}
    auc = float(np.mean(_placements(values[True], values[False], True)))
    weight = {label: len(found) / len(side) for label, side in values.items()}
    return [
        (prompt_id, metric, auc + sum(weight[label] * (next(placements[label]) - auc) for label in pair))
        for prompt_id, pair in zip(prompt_ids, found, strict=True)
    ]


def _placements(own: np.ndarray, other: np.ndarray, desirable: bool) -> np.ndarray:
    """(N,) share of `other` that each of `own` beats, or is beaten by where it is to be lower; ties half."""
    ordered = np.sort(other)
    below = (np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right")) / 2 / len(other)
    return below if desirable else 1 - below


def _half_step(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)
