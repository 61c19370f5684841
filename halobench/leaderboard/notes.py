"""What a reader of a board must know, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from halobench.leaderboard.contrasts import CHECKPOINTS, CONTROLS, Comparison, decodes, gate
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.noise_table import noise_note


def board_notes(
    setting: Setting, rows: pd.DataFrame, comparisons: Sequence[Comparison], noise: pd.DataFrame
) -> list[str]:
    """Say it all: conditions first, then controls, what can be told apart, warnings, what is missing.

    Args:
        setting: the runs.
        rows: of the board, as its table has them.
        comparisons: all of the board.
        noise: of what the error of each difference is made.
    """
    primary = [comparison for comparison in comparisons if comparison.decode == decodes(setting)[0]]
    return [
        *_conditions(setting),
        *_gate_notes(comparisons),
        *_untested_controls(setting),
        *_separability([c for c in primary if c.family == "losses"]),
        *_checkpoints(sum(c.family == CHECKPOINTS for c in primary)),
        *noise_note(noise),
        *_tuning(setting),
        *(f"Not comparable: {line}." for line in setting.mismatches()),
        *_groups(rows),
        *_collapses(rows),
        *_length(rows),
        *_missing(setting, rows),
    ]


def _conditions(setting: Setting) -> list[str]:
    recipes = [record.recipe for row in setting.rows for record in row.records.values()]
    bases = sorted({recipe["base_seed"] for recipe in recipes if recipe["base"] is not None})
    worlds = sorted({recipe["world_seed"] for recipe in recipes if recipe["base"] is not None})
    conditions = [
        f"{name} {seeds[0]}" for name, seeds in (("base", bases), ("world", worlds)) if len(seeds) == 1
    ]
    splits = {recipe["split_seed"] for recipe in recipes}
    notes = []
    if conditions:
        notes.append(
            f"Conditional on {' and '.join(conditions)}: the intervals do not cover the choice of another."
        )
    if splits != {"seed"}:
        pinned = ", ".join(str(split) for split in sorted(splits, key=str))
        notes.append(
            f"Conditional on split {pinned}: all seeds share the data, the SFT stage and the reference."
        )
    return notes


def _gate_notes(comparisons: Sequence[Comparison]) -> list[str]:
    notes = []
    for comparison, must, passes in gate(comparisons):
        separated = comparison.adjusted.separated
        found = "not separated" if not separated else "better" if comparison.estimate.mean > 0 else "worse"
        notes.append(
            f"Control {'passed' if passes else 'FAILED'}: {comparison.first} against {comparison.second} "
            f"must come out {must}; it is {found}, {comparison.estimate.mean:+.3f} "
            f"[{comparison.adjusted.low:+.3f}, {comparison.adjusted.high:+.3f}]."
        )
    return notes


def _untested_controls(setting: Setting) -> list[str]:
    """Controls that stand on the board and cannot be held against what they must, for it is not one row."""
    labels = {row.label for row in setting.rows}
    return [
        f"Control not tested: {name} against {other}, for several rows are called so."
        for name, other, _ in CONTROLS
        if {name, other} <= labels and not (setting.row(name) and setting.row(other))
    ]


def _separability(family: Sequence[Comparison]) -> list[str]:
    if not family:
        return []
    tied = sum(not c.adjusted.separated for c in family)
    note = f"{tied} of {len(family)} pairs of losses are not separable."
    powers = [c.estimate.detectable for c in family if c.estimate.stderr > 0]
    if powers:
        note += (
            f" Unadjusted, a pair is found with a power of 80% from a difference of {min(powers):.3f} to "
            f"{max(powers):.3f} on, by pair."
        )
    return [note]


def _checkpoints(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"Checkpoint-level comparisons, of rows with one seed each: {count}. They speak of these weights, "
        "not of the losses, and rank nothing."
    ]


def _tuning(setting: Setting) -> list[str]:
    trials = {
        (row.any_record.recipe["tuning"]["trials"], row.any_record.recipe["tuning"]["seeds"])
        for row in setting.rows
        if not row.control and row.label in setting.board.family
    }
    if len(trials) > 1 or any(0 in pair for pair in trials):
        return ["Provisional: unequal tuning. The hyper-parameters were not searched with equal effort."]
    return []


def _groups(rows: pd.DataFrame) -> list[str]:
    if "prompt_groups" not in rows:
        return []
    sizes = rows[["prompts", "prompt_groups"]].dropna().astype(int).drop_duplicates().to_numpy()
    return [
        f"{prompts} prompts in {groups} groups: those of a group are drawn together, and every interval "
        "and comparison counts groups."
        for prompts, groups in sizes
    ]


def _collapses(rows: pd.DataFrame) -> list[str]:
    fell = rows[rows["collapses"] > 0] if "collapses" in rows else rows[:0]
    if fell.empty:
        return []
    counts = "; ".join(
        f"{row['row']} {int(row['collapses'])} of {row['seeds']} seeds "
        f"[{row['collapse_low']:.0%}, {row['collapse_high']:.0%}]"
        for _, row in fell.iterrows()
    )
    return [
        f"Collapsed, with exact 95% intervals of how often: {counts}. The interval of a mean does not cover "
        "the next seed's collapse."
    ]


def _length(rows: pd.DataFrame) -> list[str]:
    if "lc_winrate" not in rows:
        return []
    return [
        "The win rate at equal length takes out the judge's taste for length, and with it all that length "
        "makes better or worse: it ranks nothing."
    ]


def _missing(setting: Setting, rows: pd.DataFrame) -> list[str]:
    missing = int(rows["seeds_missing"].sum()) if "seeds_missing" in rows else 0
    notes = [f"{missing} runs of the suite are missing."] if missing else []
    if setting.retracted:
        reasons = "; ".join(f"{line.run_id}: {line.reason}" for line in setting.retracted)
        notes.append(f"{len(setting.retracted)} runs of the suite are retracted ({reasons}).")
    return notes
