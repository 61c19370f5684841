"""The KTO paper's claims, tested again on the counts that its authors published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from halobench.leaderboard.counts import NOT_RESOLVABLE, CountComparison, compare_counts, compare_family
from halobench.results.published import PublishedCount


class Recipe(NamedTuple):
    """What a count is of, but for the model."""

    loss: str
    sft: bool


class Claim(NamedTuple):
    """A claim as comparisons at every scale; together they are one family.

    Attributes:
        text: what the paper says.
        first: recipes said to be as good or better.
        second: what each of them is compared with.
    """

    text: str
    first: tuple[Recipe, ...]
    second: tuple[Recipe, ...]


class Retest(NamedTuple):
    """A comparison of a claim, as its table has it.

    Attributes:
        claim: what the paper says.
        compared: the recipes on both sides.
        where: the model, or the data.
        a: name of the first run.
        b: of the second.
        a_wins: its comparisons won.
        a_total: its comparisons.
        b_wins: those of the second.
        b_total: likewise.
        difference: of the win rates, A - B.
        p: Fisher's exact test, two-sided.
        p_holm: adjusted within the claim.
        verdict: what that means for the first.
    """

    claim: str
    compared: str
    where: str
    a: str
    b: str
    a_wins: int
    a_total: int
    b_wins: int
    b_total: int
    difference: float
    p: float
    p_holm: float
    verdict: str


def _after_sft(*losses: str) -> tuple[Recipe, ...]:
    return tuple(Recipe(loss, True) for loss in losses)


def _alone(*losses: str) -> tuple[Recipe, ...]:
    return tuple(Recipe(loss, False) for loss in losses)


CLAIMS = (
    Claim(
        "HALOs match or beat non-HALOs at all scales: after SFT",
        _after_sft("dpo", "offline_ppo"),
        _after_sft("slic", "csft"),
    ),
    Claim(
        "HALOs match or beat non-HALOs at all scales: without SFT",
        _alone("dpo", "offline_ppo"),
        _alone("slic", "csft"),
    ),
    Claim("Up to 7B alignment adds nothing over SFT: DPO", _after_sft("dpo"), _alone("sft")),
    Claim("Up to 7B alignment adds nothing over SFT: KTO", _after_sft("kto"), _alone("sft")),
    Claim("Offline PPO is as good as DPO but for Llama 30B", _after_sft("offline_ppo"), _after_sft("dpo")),
    Claim(
        "Offline PPO is as good as DPO but for Llama 30B: without SFT", _alone("offline_ppo"), _alone("dpo")
    ),
    Claim("SFT+KTO competes with SFT+DPO at all scales", _after_sft("kto"), _after_sft("dpo")),
    Claim("KTO alone beats DPO alone for Llama", _alone("kto"), _alone("dpo")),
    Claim("KTO without SFT competes with SFT+KTO at 13B and 30B", _alone("kto"), _after_sft("kto")),
    Claim("KTO alone matches SFT+DPO for Llama", _alone("kto"), _after_sft("dpo")),
)
_IMBALANCE = "KTO matches DPO with 90% fewer desirable examples"
_OASST = "KTO beats DPO on OpenAssistant, with one answer per prompt too"


def claim_table(counts: Sequence[PublishedCount]) -> pd.DataFrame:
    """One row per comparison of every claim, adjusted within its claim."""
    families = [(claim.text, _at_every_scale(claim, counts)) for claim in CLAIMS]
    families += _imbalance(counts)
    families.append((_OASST, _oasst(counts)))
    rows = [row for text, pairs in families for row in _tested(text, pairs)]
    return pd.DataFrame(rows, columns=Retest._fields)


_Pair = tuple[str, PublishedCount, PublishedCount]


def _at_every_scale(claim: Claim, counts: Sequence[PublishedCount]) -> list[_Pair]:
    cells = {(c.model, Recipe(c.loss, c.sft)): c for c in counts if c.setting == "scale"}
    models = dict.fromkeys((c.model, f"{c.family} {c.size}") for c in counts if c.setting == "scale")
    return [
        (where, cells[model, first], cells[model, second])
        for model, where in models
        for first in claim.first
        for second in claim.second
        if (model, first) in cells and (model, second) in cells
    ]


def _imbalance(counts: Sequence[PublishedCount]) -> list[tuple[str, list[_Pair]]]:
    """Every kept share against DPO with all pairs: without SFT, as the paper draws it, and after SFT."""
    kept = [c for c in counts if c.setting == "imbalance"]
    kept.sort(key=lambda c: (-c.undesirable_fraction, -c.desirable_fraction))
    families = []
    for sft, words in ((False, "DPO without SFT"), (True, "SFT+DPO")):
        lines = [
            c
            for c in counts
            if c.setting == "scale" and c.loss == "dpo" and c.sft == sft and kept and c.model == kept[0].model
        ]
        pairs = [(_kept(count), count, line) for line in lines for count in kept]
        families.append((f"{_IMBALANCE}: {words}", pairs))
    return families


def _kept(count: PublishedCount) -> str:
    if count.undesirable_fraction < 1:
        return f"{count.undesirable_fraction:.0%} of undesirable"
    return f"{count.desirable_fraction:.0%} of desirable" if count.desirable_fraction < 1 else "all examples"


def _oasst(counts: Sequence[PublishedCount]) -> list[_Pair]:
    mine = [c for c in counts if c.setting == "oasst"]
    return [
        (f"{c.family}{', one answer' if c.answers == 'one_per_prompt' else ''}", c, other)
        for c in mine
        for other in mine
        if c.loss == "kto" and other.loss == "dpo" and c.model == other.model
    ]


def _tested(text: str, pairs: Sequence[_Pair]) -> list[Retest]:
    sides = [
        ", ".join(dict.fromkeys(count.row for count in side))
        for side in ([first for _, first, _ in pairs], [second for _, _, second in pairs])
    ]
    counts = [(first.wins, first.total, second.wins, second.total) for _, first, second in pairs]
    found = compare_family(counts)
    return [
        Retest(
            claim=text,
            compared=" against ".join(sides),
            where=where,
            a=first.name,
            b=second.name,
            a_wins=first.wins,
            a_total=first.total,
            b_wins=second.wins,
            b_total=second.total,
            difference=each.difference,
            p=compare_counts(*entry).p,
            p_holm=each.p,
            verdict=_verdict(each),
        )
        for (where, first, second), entry, each in zip(pairs, counts, found, strict=True)
    ]


def _verdict(found: CountComparison) -> str:
    """What the adjusted test means for the first; equality cannot be established from these counts."""
    if not found.separated:
        return NOT_RESOLVABLE
    return "better" if found.difference > 0 else "worse"
