"""The world's oracle: exact win rates, utilities, drift and collapse of sampled answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from halobench.data.rows import Row
from halobench.feedback import EvaluationPrompt, PromptSet
from halobench.materials import Materials
from halobench.models.logprobs import batches, collate, predict
from halobench.registry import SCORERS
from halobench.scoring.base import (
    Contender,
    Score,
    Scorer,
    ScoringResult,
    Text,
    make_rows,
    sampling_config,
    summarise,
)
from halobench.worlds.base import World

_TIE = 1e-9
_SHOWCASE = 64
_COLLAPSED_FORM = -2.0  # two sentences that say nothing, or one and no end
_COLLAPSED_SHARE = 0.25
_HIGHEST_MATCHED_TEMPERATURE = 1.5

DIRECTIONS: dict[str, bool | None] = {
    "winrate": True,
    "tie": None,
    "winrate_first": True,
    "winrate_reference": True,
    "utility": True,
    "length": None,
    "ended": True,
    "collapsed": False,
    "entropy": None,
    "kl": None,
}

Record = tuple[str, str, int, str, float]


@SCORERS.register("oracle", source="halobench")
class OracleScorer(Scorer):
    """Win rate and utility by the world's true utility, at T=1, at T* and greedy.

    Each answer meets all preferred draws of its prompt and, at the same temperature, all answers of the model
    that the policy started from; a tie counts half. T* is the temperature with the highest win rate on the
    dev prompts. "sft@T" is that model sampled at the temperature at which it is as sure as the policy is at
    T=1. KL from the reference and entropy are in nats.
    """

    needs_world: ClassVar[bool] = True

    def config(self, materials: Materials) -> dict[str, Any]:
        """What the numbers depend on beside the policy: the prompts, and how answers are sampled."""
        return super().config(materials) | sampling_config(materials)

    def score(self, contender: Contender) -> ScoringResult:
        """Sample, judge, and measure the distance from the reference."""
        judge = _Judge(contender.materials)
        prompts = contender.materials.prompts
        star, dev_entropy = _best_temperature(contender, judge)
        decodes = {"T=1": 1.0, "T*": star, "greedy": 0.0}
        records: list[Record] = []
        for decode, temperature in decodes.items():
            texts = contender.texts(prompts, temperature)
            records += judge.records(prompts, texts, decode)
            if contender.reference is not None:
                others = contender.reference_texts(prompts, temperature)
                records += judge.against(prompts, texts, others, decode)
        scores = []
        if contender.reference is not None:
            records += _kl_records(contender, prompts)
            matched = _matched_temperature(contender, dev_entropy)
            records += judge.records(
                prompts, contender.reference_texts(prompts, matched), "sft@T", ("winrate",)
            )
            scores.append(Score("sft@T", "temperature", matched, None, len(prompts.rows), None))
        components = dict.fromkeys(contender.materials.world.components, True)
        rows = make_rows(records)
        scores += summarise(rows, {**DIRECTIONS, **components})
        scores += _whole_scores(rows, contender.texts(prompts, 1.0), star)
        return ScoringResult(rows, scores, _showcase(contender, prompts, decodes))


class _Judge:
    """Asks the world, once for each answer."""

    def __init__(self, materials: Materials) -> None:
        self._world = materials.world
        self._components: dict[tuple[str, str], dict[str, float]] = {}

    def records(
        self, prompts: PromptSet, texts: Sequence[Text], decode: str, only: tuple[str, ...] = ()
    ) -> list[Record]:
        """Every metric of each answer that needs no reference; with `only`, just these."""
        records = []
        for prompt, answers in _by_prompt(prompts, texts):
            baseline = _utilities_of_draws(self._world, prompts.rows[prompt])
            for answer in answers:
                parts = self._parts(prompts, prompt, answer.text)
                utility = sum(parts.values())
                wins, ties = utility > baseline + _TIE, np.abs(utility - baseline) <= _TIE
                beats = wins + 0.5 * ties
                values = {
                    "winrate": beats.mean(),
                    "tie": ties.mean(),
                    "utility": utility,
                    **parts,
                    "length": len(answer.tokens) - answer.ended,
                    "ended": answer.ended,
                    "collapsed": parts["form"] <= _COLLAPSED_FORM,
                    "entropy": answer.entropy,
                }
                if decode == "T=1" and answer.rep == 0:
                    values["winrate_first"] = beats[0]
                prompt_id = prompts.rows[prompt].prompt_id
                records += [
                    (prompt_id, decode, answer.rep, metric, float(value))
                    for metric, value in values.items()
                    if not only or metric in only
                ]
        return records

    def against(
        self, prompts: PromptSet, texts: Sequence[Text], others: Sequence[Text], decode: str
    ) -> list[Record]:
        """Share of the other model's answers that each answer beats."""
        records = []
        pairs = zip(_by_prompt(prompts, texts), _by_prompt(prompts, others), strict=True)
        for (prompt, answers), (_, other_answers) in pairs:
            theirs = np.array([self.utility(prompts, prompt, other.text) for other in other_answers])
            for answer in answers:
                mine = self.utility(prompts, prompt, answer.text)
                value = np.mean((mine > theirs + _TIE) + 0.5 * (np.abs(mine - theirs) <= _TIE))
                records.append(
                    (prompts.rows[prompt].prompt_id, decode, answer.rep, "winrate_reference", float(value))
                )
        return records

    def winrate(self, prompts: PromptSet, texts: Sequence[Text]) -> float:
        """Mean win rate against the preferred draws."""
        records = self.records(prompts, texts, "", ("winrate",))
        return float(np.mean([value for *_, value in records]))

    def utility(self, prompts: PromptSet, prompt: int, text: str) -> float:
        """True utility of an answer to the prompt of that number."""
        return sum(self._parts(prompts, prompt, text).values())

    def _parts(self, prompts: PromptSet, prompt: int, text: str) -> dict[str, float]:
        row = prompts.rows[prompt]
        key = (row.prompt_id, text)
        if key not in self._components:
            self._components[key] = dict(self._world.utility(row.prompt, text))
        return self._components[key]


@lru_cache(maxsize=1024)
def _utilities_of_draws(world: World, row: EvaluationPrompt) -> np.ndarray:
    """(draws,) utilities of the preferred answers of a prompt, which all ended; the same for every run."""
    return np.array(
        [sum(world.utility(row.prompt, f"{text} {world.end_marker}").values()) for text in row.chosen]
    )


def _by_prompt(prompts: PromptSet, texts: Sequence[Text]) -> Iterator[tuple[int, Sequence[Text]]]:
    """Yield the number of each prompt with its answers; answers come prompt by prompt."""
    per_prompt = len(texts) // len(prompts.rows)
    for index in range(len(prompts.rows)):
        yield index, texts[index * per_prompt : (index + 1) * per_prompt]


def _best_temperature(contender: Contender, judge: _Judge) -> tuple[float, float]:
    """Return T* and the policy's entropy per token at T=1, both on the dev prompts."""
    prompts = contender.materials.dev_prompts
    temperatures = sorted({*contender.recipe.scoring.temperatures, 1.0}, reverse=True)
    winrates = {t: judge.winrate(prompts, contender.texts(prompts, t)) for t in temperatures}
    star = max(temperatures, key=lambda t: winrates[t])  # the highest of equals: sharpen only if it helps
    return star, _mean_entropy(contender.texts(prompts, 1.0))


def _mean_entropy(texts: Sequence[Text]) -> float:
    return float(np.mean([text.entropy for text in texts]))


def _matched_temperature(contender: Contender, entropy: float) -> float:
    """Temperature at which the reference's entropy per token on dev equals the policy's, by interpolation."""
    prompts = contender.materials.dev_prompts
    temperatures = sorted({*contender.recipe.scoring.temperatures, 1.0, _HIGHEST_MATCHED_TEMPERATURE})
    entropies = [_mean_entropy(contender.reference_texts(prompts, t)) for t in temperatures]
    return round(float(np.interp(entropy, np.maximum.accumulate(entropies), temperatures)), 3)


@torch.no_grad()
def _kl_records(contender: Contender, prompts: PromptSet) -> list[Record]:
    """KL(policy || reference) along the policy's first T=1 answer of each prompt, exact at every token."""
    answers = [text for text in contender.texts(prompts, 1.0) if text.rep == 0]
    asked = [
        Row(contender.prompt_tokens(row.prompt), text.tokens, True)
        for row, text in zip(prompts.rows, answers, strict=True)
    ]
    plain = [
        row._replace(prompt=contender.encoder.prompt(p.prompt))
        for row, p in zip(asked, prompts.rows, strict=True)
    ]
    records = []
    for part, batch in batches(contender.model, asked):
        policy = predict(contender.model, batch)
        reference_model = contender.reference_model
        if reference_model is None:
            raise ValueError("KL needs a reference")
        reference = predict(reference_model, collate(reference_model, [plain[i] for i in part]))
        # tokens that only one of them knows, for control or to fill up a table, are never drawn
        vocabulary = min(policy.logits.shape[-1], reference.logits.shape[-1])
        log_p, log_q = (
            model.logits[..., :vocabulary].double().log_softmax(-1) for model in (policy, reference)
        )
        kl = policy.sums((log_p.exp() * (log_p - log_q)).sum(-1))
        records += [
            (answers[i].prompt_id, "T=1", 0, "kl", value) for i, value in zip(part, kl.tolist(), strict=True)
        ]
    return records


def _whole_scores(rows: pd.DataFrame, texts: Sequence[Text], star: float) -> list[Score]:
    """Numbers that are no mean over prompts."""
    at_one = rows[rows["decode"] == "T=1"]
    utility = at_one.loc[at_one["metric"] == "utility", "value"]
    collapsed = at_one.loc[at_one["metric"] == "collapsed", "value"].mean()
    count = at_one["prompt_id"].nunique()
    return [
        Score("T=1", "utility_q05", float(utility.quantile(0.05)), None, count, True),
        Score("T=1", "distinct", len({text.text for text in texts}) / len(texts), None, count, None),
        Score("T=1", "collapse", float(collapsed > _COLLAPSED_SHARE), None, count, False),
        Score("T*", "temperature", star, None, count, None),
    ]


def _showcase(contender: Contender, prompts: PromptSet, decodes: dict[str, float]) -> pd.DataFrame:
    shown = {row.prompt_id for row in prompts.rows[:_SHOWCASE]}
    records = [
        (text.prompt_id, decode, text.rep, text.text)
        for decode, temperature in decodes.items()
        for text in contender.texts(prompts, temperature)
        if text.prompt_id in shown
    ]
    return pd.DataFrame(records, columns=["prompt_id", "decode", "rep", "text"]).astype({"rep": "int16"})
