"""What others published, beside our boards: win rates with intervals, their claims tested again."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from halobench.leaderboard.names import shown_name
from halobench.leaderboard.published_claims import claim_table
from halobench.leaderboard.stats import clopper_pearson
from halobench.results.published import PublishedCount, load_published

MARK = "checkpoint-level, one seed, unpaired bound"
PRINTED_LEVEL = 0.9  # of the paper's +-: half of a Clopper-Pearson interval
CONDITIONS = (
    "Not our runs: counts that the authors published, of one checkpoint and one training seed each. The "
    "intervals cover the choice of prompts alone.",
    "A win rate here is wins / all prompts: what the judge left undecided counts as not won, where our "
    "boards count a tie half.",
    "Verdicts by prompt were not published. So the comparisons are unpaired, Fisher's exact test on the same "
    "prompts is a conservative bound, and counts of several losses on the same prompts are never added up.",
    "The losses did not get the same number of steps, and none was tuned: KTO, CSFT and offline PPO took "
    "twice as many steps as DPO and SLiC on the same data.",
)


class PublishedTables(NamedTuple):
    """What is shown of others' numbers.

    Attributes:
        counts: one row per checkpoint with its win rate and interval.
        claims: one row per comparison of a claim.
        scores: percentages without counts, as printed.
    """

    counts: pd.DataFrame
    claims: pd.DataFrame
    scores: pd.DataFrame


def published_tables(results: Path) -> PublishedTables | None:
    """Make the tables of a results folder's published numbers; None where it has none."""
    published = load_published(results)
    if not (published.counts or published.scores):
        return None
    tables = (
        pd.DataFrame([_record(count) for count in published.counts]),
        claim_table(published.counts),
        pd.DataFrame([score.model_dump() for score in published.scores]),
    )
    return PublishedTables(*(table.map(_shown) for table in tables))


def _shown(cell: object) -> object:
    return shown_name(cell) if isinstance(cell, str) else cell


def _record(count: PublishedCount) -> dict[str, object]:
    low, high = clopper_pearson(count.wins, count.total)
    facts = count.model_dump()
    return {
        "name": facts.pop("name"),
        "level": MARK,
        "row": count.row,
        **facts,
        "undecided": count.total - count.wins - count.losses,
        "winrate": count.wins / count.total,
        "winrate_low": low,
        "winrate_high": high,
        "half_width_90": half_width(count),
    }


def prints_right(row: pd.Series) -> bool:
    """Whether the paper's win rate and +- are those of the counts, to the digits that it prints."""
    pairs = ((row["winrate"], row["printed_rate"]), (row["half_width_90"], row["printed_half_width"]))
    return all(f"{counted:.3f}" == f"{printed:.3f}" for counted, printed in pairs)


def half_width(count: PublishedCount) -> float:
    """The paper's +-: half the width of the 90% interval."""
    low, high = clopper_pearson(count.wins, count.total, PRINTED_LEVEL)
    return (high - low) / 2
