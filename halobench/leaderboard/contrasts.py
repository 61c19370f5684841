"""Paired comparisons of a board's rows: which families are tested, and what each comparison says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from halobench.leaderboard.checkpoint import across_prompts, exact_p
from halobench.leaderboard.clusters import by_group
from halobench.leaderboard.cube import PRIMARY_DECODE, BoardRow, Setting
from halobench.leaderboard.noise import steadied
from halobench.leaderboard.stats import MIN_SEEDS, Adjusted, Estimate, anova, holm, rank_intervals, verdict
from halobench.leaderboard.unpaired import unpaired

# (control, compared with, what must come out): the gate that says the machinery is right.
CONTROLS = (
    ("oracle_sft", "sft", "better"),
    ("sft_again", "sft", "not separated"),
    ("random_label", "reference", "not better"),  # random labels teach nothing, and may do harm
)
CHECKPOINTS = "checkpoints"
_TREATMENTS = {
    "fraction": 1.0,
    "desirable_fraction": 1.0,
    "undesirable_fraction": 1.0,
    "label_noise": 0.0,
    "contradicting_share": 0.0,
    "contradictions": "keep",
    "answers": "all",
}
SECOND_DECODE = "T*"
NO_DECODE = "-"
CONTRAST_COLUMNS = [
    "suite",
    "setting",
    "family",
    "decode",
    "metric",
    "a",
    "b",
    "difference",
    "low",
    "high",
    "adjusted_low",
    "adjusted_high",
    "p_holm",
    "separated",
    "verdict",
    "robust",
    "detectable",
    "num_seeds",
    "num_prompts",
    "level",
    "p_exact",
]


@dataclass(frozen=True)
class Comparison:
    """A paired difference of two rows within its family.

    Attributes:
        family: name of the family it is corrected in.
        decode: how the texts were sampled, "-" where there are none.
        first: name of row A.
        second: name of row B.
        estimate: of A - B over the same prompts, and common seeds where there are.
        adjusted: within the family.
        p_exact: of checkpoints, two-sided and for this comparison alone: McNemar's test, or sign flips.
    """

    family: str
    decode: str
    first: str
    second: str
    estimate: Estimate
    adjusted: Adjusted
    p_exact: float | None = None

    @property
    def level(self) -> str:
        """What it speaks of: a "method", or with one seed a "checkpoint"."""
        return "method" if self.p_exact is None else "checkpoint"

    def verdict(self, margin: float) -> str:
        """What it says of A."""
        return verdict(self.adjusted.low, self.adjusted.high, margin)


def unranked_reason(setting: Setting, row: BoardRow) -> str | None:
    """Why a row has no rank, or None if it has one."""
    reason = _unrankable_reason(setting, row)
    if reason is None and len(row.completed) < MIN_SEEDS:
        return f"{len(row.completed)} of {MIN_SEEDS} seeds"
    return reason


def _unrankable_reason(setting: Setting, row: BoardRow) -> str | None:
    """Why a row has no rank whatever its seeds, or None."""
    if row.control:
        return "control"
    budget = row.any_record.recipe["budget"]["multiple"]
    if budget != 1:
        return f"budget {budget:.1f}x"
    if _is_online(row):
        return _other_data("its own answers")
    if treatment(row):
        return _other_data(treatment(row))
    if row.label not in setting.board.family:
        return "not in the declared family"
    diverged = len(row.records) - len(row.completed)
    if diverged:
        return f"{diverged} of {len(row.records)} seeds diverged"
    return None


def _other_data(what: str) -> str:
    return f"other data: {what}"


def _is_online(row: BoardRow) -> bool:
    """Whether its feedback was about the policy's own answers, and so is that of no other row."""
    return row.any_record.evaluate == "aligned" and row.any_record.recipe["data"].get("online") is not None


def treatment(row: BoardRow) -> str:
    """What was done to the feedback that it was shown, or nothing; rows are ranked among their like only."""
    record = row.any_record
    if record.evaluate != "aligned":
        return ""
    data = record.recipe["data"]
    done = {key: data.get(key, usual) for key, usual in _TREATMENTS.items()}
    return ", ".join(f"{key}={value}" for key, value in done.items() if value != _TREATMENTS[key])


def decodes(setting: Setting) -> tuple[str, ...]:
    """The co-primary ways of sampling, or "-" where the primary metric is not about sampled texts."""
    return (PRIMARY_DECODE, SECOND_DECODE) if setting.is_sampled else (NO_DECODE,)


def compared_seeds(first: BoardRow, second: BoardRow) -> tuple[list[int], list[int]]:
    """Seeds of each that a comparison takes: the common ones; where these are fewer than two, all."""
    common = sorted(set(first.completed) & set(second.completed))
    return (common, common) if len(common) > 1 else (first.completed, second.completed)


def difference(setting: Setting, first: BoardRow, second: BoardRow, decode: str) -> Estimate | None:
    """Estimate A - B on the primary metric, paired by prompt and seed.

    Rows with fewer than two common seeds (A/A: two disjoint sets) are paired by prompt alone. None unless
    both have at least two seeds with all prompts, scored alike.
    """
    scorer, metric = setting.board.metric.split("/")
    if setting.config_ids[first.name].get(scorer) != setting.config_ids[second.name].get(scorer):
        return None
    seeds = compared_seeds(first, second)
    a, b = (
        setting.table(row, scorer, decode, metric, chosen)
        for row, chosen in zip((first, second), seeds, strict=True)
    )
    prompts = [setting.prompt_ids(row, scorer, decode, metric) for row in (first, second)]
    if a is None or b is None or prompts[0] != prompts[1] or min(*a.shape, *b.shape) < 2:
        return None
    return anova(np.asarray(a - b)) if seeds[0] == seeds[1] else unpaired(a, b)


def compare(setting: Setting) -> list[Comparison]:
    """Make every comparison of a board, each corrected within its own family.

    Families, per co-primary decode: the ranked losses, all pairs; those that were shown the same part of the
    feedback, or the same errors in it; the controls of the gate; each row outside the declared family, or
    trained on its own answers, against every ranked loss; the losses of one seed, all pairs, which speak of
    these weights. Estimates of one family do not depend on another.
    """
    found: list[Comparison] = []
    ranked = [row for row in setting.rows if unranked_reason(setting, row) is None]
    outside = [
        row
        for row in setting.rows
        if not row.control
        and (row.label not in setting.board.family or _is_online(row))
        and len(row.completed) > 1
    ]
    single = [
        row for row in setting.rows if len(row.completed) == 1 and _unrankable_reason(setting, row) is None
    ]
    for decode in decodes(setting):
        found += _family(setting, "losses", decode, list(combinations(ranked, 2)))
        for done, rows in _treated(setting).items():
            found += _family(setting, f"losses, {done}", decode, list(combinations(rows, 2)))
        pairs = [(setting.row(name), setting.row(other)) for name, other, _ in CONTROLS]
        found += _family(setting, "controls", decode, [(a, b) for a, b in pairs if a and b])
        for row in outside:
            found += _family(
                setting, f"{row.name} against the losses", decode, [(row, other) for other in ranked]
            )
        found += _checkpoints(setting, decode, list(combinations(single, 2)))
    return found


def _treated(setting: Setting) -> dict[str, list[BoardRow]]:
    """Rows that would be ranked but for what was done to their feedback, by that."""
    found: dict[str, list[BoardRow]] = {}
    for row in setting.rows:
        done = treatment(row)
        is_whole = len(row.completed) == len(row.records) and row.label in setting.board.family
        if done and is_whole and _unrankable_reason(setting, row) == _other_data(done):
            found.setdefault(done, []).append(row)
    return found


def _checkpoints(setting: Setting, decode: str, pairs: list[tuple[BoardRow, BoardRow]]) -> list[Comparison]:
    """Compare rows of one seed each; only prompts are drawn from many."""
    scorer, metric = setting.board.metric.split("/")
    known = []
    for a, b in pairs:
        first, second = (setting.single_prompts(row, scorer, decode, metric) for row in (a, b))
        prompts = [setting.prompt_ids(row, scorer, decode, metric) for row in (a, b)]
        groups = setting.groups(a, scorer, decode, metric)
        if first is None or second is None or prompts[0] != prompts[1] or len(set(groups)) < 2:
            continue
        name = f"{setting.setting_id}/{setting.board.metric}/{decode}/{a.name}/{b.name}"
        estimate = across_prompts(by_group(np.asarray(first - second), groups)[0])
        known.append((a, b, estimate, exact_p(first[0], second[0], groups, name)))
    return [
        Comparison(CHECKPOINTS, decode, a.name, b.name, estimate, entry, p)
        for (a, b, estimate, p), entry in zip(known, holm([e for *_, e, _ in known]), strict=True)
    ]


def _family(
    setting: Setting, name: str, decode: str, pairs: list[tuple[BoardRow, BoardRow]]
) -> list[Comparison]:
    estimated = [(a, b, difference(setting, a, b, decode)) for a, b in pairs]
    known = [(a, b, estimate) for a, b, estimate in estimated if estimate is not None]
    adjusted = holm(steadied([estimate for _, _, estimate in known]))
    return [
        Comparison(name, decode, a.name, b.name, estimate, entry)
        for (a, b, estimate), entry in zip(known, adjusted, strict=True)
    ]


def ranks(setting: Setting, comparisons: list[Comparison]) -> dict[str, tuple[int, int]]:
    """Rank intervals of the ranked rows, from the primary decode."""
    primary = decodes(setting)[0]
    names = [row.name for row in setting.rows if unranked_reason(setting, row) is None]
    separated = {
        (c.first, c.second): c.estimate.mean
        for c in comparisons
        if c.family == "losses" and c.decode == primary and c.adjusted.separated
    }
    return rank_intervals(names, separated)


def robust(comparisons: list[Comparison], comparison: Comparison) -> bool | None:
    """Whether the difference has the same sign at every co-primary decode; None if there is only one."""
    same = [
        c.estimate.mean
        for c in comparisons
        if (c.family, c.first, c.second) == (comparison.family, comparison.first, comparison.second)
    ]
    return None if len(same) < 2 else all(mean > 0 for mean in same) or all(mean < 0 for mean in same)


def gate(comparisons: Sequence[Comparison]) -> list[tuple[Comparison, str, bool]]:
    """The control comparisons at the primary decode: each with what must come out, and whether it did."""
    must = {(name, other): outcome for name, other, outcome in CONTROLS}
    found = []
    for comparison in comparisons:
        if comparison.family == "controls" and comparison.decode != SECOND_DECODE:
            outcome = must[comparison.first, comparison.second]
            separated = comparison.adjusted.separated
            is_better = separated and comparison.estimate.mean > 0
            came_out = {
                "better": is_better,
                "not better": not is_better,
                "not separated": not separated,
            }
            found.append((comparison, outcome, came_out[outcome]))
    return found


def contrast_table(setting: Setting, comparisons: list[Comparison]) -> pd.DataFrame:
    """One row per comparison, for contrasts.csv."""
    rows = []
    for c in comparisons:
        low, high = c.estimate.interval()
        same_sign = robust(comparisons, c)
        rows.append(
            {
                "suite": setting.suite,
                "setting": setting.setting_id,
                "family": c.family,
                "decode": c.decode,
                "metric": setting.board.metric,
                "a": c.first,
                "b": c.second,
                "difference": c.estimate.mean,
                "low": low,
                "high": high,
                "adjusted_low": c.adjusted.low,
                "adjusted_high": c.adjusted.high,
                "p_holm": c.adjusted.p,
                "separated": c.adjusted.separated,
                "verdict": c.verdict(setting.board.margin),
                "robust": "" if same_sign is None else str(same_sign),
                "detectable": c.estimate.detectable,
                "num_seeds": c.estimate.num_seeds,
                "num_prompts": c.estimate.num_prompts,
                "level": c.level,
                "p_exact": c.p_exact,
            }
        )
    return pd.DataFrame(rows, columns=CONTRAST_COLUMNS)
