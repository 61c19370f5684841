"""The tables of an ablation: the level of every series, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from halobench.leaderboard.ablations import Ablation, Member, Series
from halobench.leaderboard.checkpoint import across_prompts
from halobench.leaderboard.noise import steadied
from halobench.leaderboard.stats import LEVEL, Estimate, anova, holm, verdict
from halobench.leaderboard.trends import breakdown, slopes

TREND_COLUMNS = [
    "suite",
    "axis",
    "metric",
    "decode",
    "kind",
    "a",
    "b",
    "level",
    "estimate",
    "low",
    "high",
    "adjusted_low",
    "adjusted_high",
    "p_holm",
    "verdict",
    "num_levels",
    "num_seeds",
    "num_prompts",
    "dropped_seeds",
    "dropped_prompts",
    "status",
]


class Grid(NamedTuple):
    """Tables that share their seeds and prompts.

    Attributes:
        tables: (S, P) values, in the order of what was asked for.
        dropped_seeds: seeds that some have and not all.
        dropped_prompts: prompts likewise.
    """

    tables: list[Float[np.ndarray, "seeds prompts"]]
    dropped_seeds: int
    dropped_prompts: int

    @property
    def is_enough(self) -> bool:
        """Whether an interval over seeds and prompts can be given."""
        return all(size > 1 for size in self.tables[0].shape)


def common_grid(members: Sequence[Member]) -> Grid:
    """Keep the seeds and prompts that all have; nothing is made up for a missing one."""
    seeds = [set(member.values.index) for member in members]
    prompts = [set(member.values.columns) for member in members]
    common = sorted(set.intersection(*seeds)), sorted(set.intersection(*prompts))
    return Grid(
        [member.values.loc[common].to_numpy(float) for member in members],
        len(set.union(*seeds)) - len(common[0]),
        len(set.union(*prompts)) - len(common[1]),
    )


def level_table(ablation: Ablation) -> pd.DataFrame:
    """One row per level of each series, and one per control that does not vary: estimate and 95% interval."""
    rows = []
    for one in ablation.series:
        for level, member in one.members.items():
            rows.append({"series": one.name, "loss": one.label, "level": level, **_level(member)})
    for name, member in ablation.controls.items():
        rows.append({"series": name, "loss": member.row.loss, "level": math.nan, **_level(member)})
    lines = set(ablation.controls)
    return pd.DataFrame(rows).assign(
        is_line=lambda frame: frame["series"].isin(lines) & frame["level"].isna()
    )


def _level(member: Member) -> dict[str, Any]:
    records = list(member.row.records.values())
    values = member.values.to_numpy(float)
    low = high = math.nan
    status = "" if len(values) > 1 else "one seed: of these weights, not of the method"
    if values.shape[1] > 1:
        low, high = (anova(values) if len(values) > 1 else across_prompts(values[0])).interval()
    diverged = len(records) - len(member.row.completed)
    facts: dict[str, Any] = {
        "control": member.row.control,
        "est": float(values.mean()),
        "lo": low,
        "hi": high,
        "n_seeds": len(values),
        "n_prompts": values.shape[1],
        "status": f"{diverged} of {len(records)} seeds diverged" if diverged else status,
    }
    data = [record.data for record in records if record.data is not None]
    budgets = [record.budget for record in records if record.budget is not None]
    if data:
        facts["desirable"] = float(np.mean([one.view_desirable for one in data]))
        facts["undesirable"] = float(np.mean([one.view_undesirable for one in data]))
    if budgets:
        facts |= {key: float(np.mean([getattr(b, key) for b in budgets])) for key in ("steps", "tokens")}
        facts["passes"] = member.facts["passes"]
    return facts


def trend_table(ablation: Ablation) -> pd.DataFrame:
    """What the levels say, tidy; `kind` is one of the following, the first five on common seeds and prompts.

    slope: of a, per doubling (tenth for shares). interaction: slope of a minus that of b, Holm-adjusted over
    all pairs of series that are no controls. full: level of a against the level of a with all data, and
    control: against a control (at the same level where that varies too), both Holm-adjusted over the levels.
    breakdown: the last level that is not inferior to full data by the margin, tested from there in a fixed
    order. crossing: where a and b swap places.
    """
    rows = []
    for side, on_side in ablation.sides.items():
        mine = {
            one.name: {level: member for level, member in one.members.items() if on_side(level)}
            for one in ablation.series
        }
        mine = {name: levels for name, levels in mine.items() if len(levels) > 1}
        compared = [one for one in ablation.series if one.name in mine and not one.control]
        found = [_slope(ablation, name, levels) for name, levels in mine.items()]
        found += _interactions(ablation, [(one.name, mine[one.name]) for one in compared])
        for one in compared:
            found += _against_full(ablation, one.name, mine[one.name])
            found += _against_controls(ablation, one, mine)
        for first, second in combinations(compared, 2):
            found += _crossing(ablation, first.name, mine[first.name], second.name, mine[second.name])
        rows += [{**row, "axis": side} for row in found]
    common = {"suite": ablation.suite, "metric": ablation.metric, "decode": ablation.decode}
    return pd.DataFrame([{**common, **row} for row in rows], columns=TREND_COLUMNS)


Levels = Mapping[float, Member]


def _row(kind: str, a: str, b: str, grid: Grid, estimate: Estimate | None, **more: Any) -> dict[str, Any]:
    low, high = (math.nan, math.nan) if estimate is None else estimate.interval()
    num_seeds, num_prompts = grid.tables[0].shape
    too_few = f"{num_seeds} common seeds and {num_prompts} prompts: no interval" if estimate is None else ""
    return {
        "kind": kind,
        "a": a,
        "b": b,
        "estimate": math.nan if estimate is None else estimate.mean,
        "low": low,
        "high": high,
        "num_seeds": num_seeds,
        "num_prompts": num_prompts,
        "dropped_seeds": grid.dropped_seeds,
        "dropped_prompts": grid.dropped_prompts,
        "verdict": "",
        "status": too_few,
        **more,
    }


def _places(ablation: Ablation, levels: Sequence[float], tables: list[Any]) -> dict[float, Any]:
    return {ablation.axis.place(level): table for level, table in zip(levels, tables, strict=True)}


def _slope(ablation: Ablation, name: str, levels: Levels) -> dict[str, Any]:
    grid = common_grid(list(levels.values()))
    estimate = anova(slopes(_places(ablation, list(levels), grid.tables))) if grid.is_enough else None
    return _row("slope", name, "", grid, estimate, num_levels=len(levels))


def _interactions(ablation: Ablation, series: Sequence[tuple[str, Levels]]) -> list[dict[str, Any]]:
    """Differences of slopes, one family; pairs are held against each other at the levels that both have."""
    rows: list[dict[str, Any]] = []
    estimates: list[Estimate] = []
    for (first, mine), (second, others) in combinations(series, 2):
        common = [level for level in mine if level in others]
        if len(common) < 2:
            continue
        grid = common_grid([mine[level] for level in common] + [others[level] for level in common])
        gone = len(set(mine) | set(others)) - len(common)
        more: dict[str, Any] = {"num_levels": len(common)}
        if not grid.is_enough:
            rows.append(_row("interaction", first, second, grid, None, **more))
            continue
        a, b = grid.tables[: len(common)], grid.tables[len(common) :]
        estimate = anova(slopes(_places(ablation, common, a)) - slopes(_places(ablation, common, b)))
        estimates.append(estimate)
        more["status"] = f"{gone} levels of one only are left out" if gone else ""
        rows.append(_row("interaction", first, second, grid, estimate, **more))
    known = [row for row in rows if not math.isnan(row["estimate"])]
    words = {"better": "rises more", "worse": "rises less"}
    _adjust(known, estimates, lambda low, high: words.get(verdict(low, high, 0.0), "inconclusive"))
    return rows


def _adjust(rows: Sequence[dict[str, Any]], estimates: Sequence[Estimate], word: Any) -> None:
    """Correct rows as one family, in place."""
    for row, entry in zip(rows, holm(steadied(estimates)), strict=True):
        row |= {
            "adjusted_low": entry.low,
            "adjusted_high": entry.high,
            "p_holm": entry.p,
            "verdict": word(entry.low, entry.high),
        }


def _against_full(ablation: Ablation, name: str, levels: Levels) -> list[dict[str, Any]]:
    """Every level against the one with all the data, and up to where it does not matter."""
    full = ablation.axis.full(list(levels))
    if full is None:
        return []
    others = [level for level in levels if level != full]
    rows = _family(ablation, "full", name, [(level, levels[level], name, levels[full]) for level in others])
    grid = common_grid(list(levels.values()))
    if not grid.is_enough:
        return rows
    places = _places(ablation, list(levels), grid.tables)
    last = breakdown(places, ablation.axis.place(full), ablation.margin)
    level = next((level for level in levels if ablation.axis.place(level) == last), None)
    farthest = max(others, key=lambda other: abs(ablation.axis.place(other) - ablation.axis.place(full)))
    status = (
        "the nearest level fails" if level is None else "holds at every level" if level == farthest else ""
    )
    found = _row("breakdown", name, "", grid, None, num_levels=len(levels), level=level, status=status)
    return [*rows, {**found, "estimate": math.nan if level is None else level}]


def _against_controls(ablation: Ablation, one: Series, sides: Mapping[str, Levels]) -> list[dict[str, Any]]:
    """Every level against each control; those that vary too are met at the same level."""
    rows = []
    mine = sides[one.name]
    for name, control in ablation.controls.items():
        rows += _family(
            ablation, "control", one.name, [(level, member, name, control) for level, member in mine.items()]
        )
    for other in ablation.series:
        theirs = sides.get(other.name, {}) if other.control else {}
        common = [level for level in mine if level in theirs]
        rows += _family(ablation, "control", one.name, [(x, mine[x], other.name, theirs[x]) for x in common])
    return rows


def _family(
    ablation: Ablation, kind: str, name: str, pairs: Sequence[tuple[float, Member, str, Member]]
) -> list[dict[str, Any]]:
    """Paired differences of one series, level by level, corrected together."""
    rows, known, estimates = [], [], []
    for level, member, other_name, other in pairs:
        if member.run_ids == other.run_ids:
            continue
        grid = common_grid([member, other])
        estimate = anova(grid.tables[0] - grid.tables[1]) if grid.is_enough else None
        row = _row(kind, name, other_name, grid, estimate, level=level)
        rows.append(row)
        if estimate is not None:
            known.append(row)
            estimates.append(estimate)
    _adjust(known, estimates, lambda low, high: verdict(low, high, ablation.margin))
    return rows


def _crossing(
    ablation: Ablation, first: str, mine: Levels, second: str, others: Levels
) -> list[dict[str, Any]]:
    """Where two series swap places: by each seed's straight lines between levels, on the scale of trends."""
    common = [level for level in mine if level in others]
    if len(common) < 2:
        return []
    grid = common_grid([mine[level] for level in common] + [others[level] for level in common])
    if not grid.is_enough:
        return []
    places = np.log2([ablation.axis.place(level) for level in common])
    means = np.array([table.mean(1) for table in grid.tables])  # (2K, S)
    gaps = means[: len(common)] - means[len(common) :]  # (K, S)
    found = crossing(places, gaps)
    row = _row("crossing", first, second, grid, None, num_levels=len(common), status=found.status)
    ends = {"estimate": found.place, "low": found.low, "high": found.high}
    scale = 10 if ablation.axis.step == "tenth" else None
    return [{**row, **{key: end / scale if scale else 2.0**end for key, end in ends.items()}}]


class Crossing(NamedTuple):
    """Where two curves swap places.

    Attributes:
        place: on the axis given; nan where the means do not cross just once.
        low: lower end of the interval over seeds; nan unless every seed crosses just once.
        high: its upper end.
        status: what stands in the way, or "".
    """

    place: float
    low: float
    high: float
    status: str


def crossing(places: Float[np.ndarray, " levels"], gaps: Float[np.ndarray, "levels seeds"]) -> Crossing:
    """Find where the difference of two curves changes its sign, by straight lines between the places.

    Args:
        places: rising.
        gaps: A - B, by place and seed.

    Returns:
        The crossing of the mean curves; its interval is Student's t over those of the seeds.
    """
    whole = _zeros(places, gaps.mean(1))
    if len(whole) != 1:
        many = "no crossing" if not whole else f"the means cross {len(whole)} times"
        return Crossing(math.nan, math.nan, math.nan, many)
    by_seed = [_zeros(places, gaps[:, seed]) for seed in range(gaps.shape[1])]
    once = [zeros[0] for zeros in by_seed if len(zeros) == 1]
    if len(once) < len(by_seed) or len(once) < 2:
        return Crossing(
            whole[0], math.nan, math.nan, f"{len(once)} of {len(by_seed)} seeds cross once: no interval"
        )
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(once) - 1)) * float(np.std(once, ddof=1)) / len(once) ** 0.5
    centre = float(np.mean(once))
    return Crossing(whole[0], centre - half, centre + half, "")


def _zeros(places: Float[np.ndarray, " levels"], gaps: Float[np.ndarray, " levels"]) -> list[float]:
    """Places at which a curve of straight lines changes its sign; touching zero is no change."""
    signed = [(float(place), float(gap)) for place, gap in zip(places, gaps, strict=True) if gap != 0]
    return [
        left + (right - left) * before / (before - after)
        for (left, before), (right, after) in pairwise(signed)
        if before * after < 0
    ]
