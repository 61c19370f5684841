"""The tables of a board: one row per method with its intervals, and what the runs cost."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from halobench.leaderboard.checkpoint import across_prompts, is_binary
from halobench.leaderboard.contrasts import Comparison, contrast_table, decodes, ranks, unranked_reason
from halobench.leaderboard.cube import PRIMARY_DECODE, BoardRow, Setting
from halobench.leaderboard.length_control import length_controlled
from halobench.leaderboard.noise_table import noise_table
from halobench.leaderboard.notes import board_notes
from halobench.leaderboard.stats import anova, clopper_pearson, wilson

SFT_AT_T = "sft@T"
LENGTH = "length"
BASELINE_LENGTH = "length_baseline"


class Column(NamedTuple):
    """A number of the board that is a mean over prompts.

    Attributes:
        key: name of the column.
        scorer: that measured it.
        decode: how the texts were sampled.
        metric: of the scorer.
    """

    key: str
    scorer: str
    decode: str
    metric: str


COLUMNS = (
    Column("winrate", "oracle", "T=1", "winrate"),
    Column("winrate_star", "oracle", "T*", "winrate"),
    Column("winrate_greedy", "oracle", "greedy", "winrate"),
    Column("winrate_reference", "oracle", "T=1", "winrate_reference"),
    Column("winrate_alpaca_eval", "alpaca_eval", "T=1", "winrate"),
    Column("sft_at_same_entropy", "oracle", SFT_AT_T, "winrate"),
    Column("utility", "oracle", "T=1", "utility"),
    Column("task", "oracle", "T=1", "task"),
    Column("truth", "oracle", "T=1", "truth"),
    Column("manners", "oracle", "T=1", "manners"),
    Column("brevity", "oracle", "T=1", "brevity"),
    Column("form", "oracle", "T=1", "form"),
    Column("kl", "oracle", "T=1", "kl"),
    Column("entropy", "oracle", "T=1", "entropy"),
    Column("length", "oracle", "T=1", "length"),
    Column("ended", "oracle", "T=1", "ended"),
    Column("collapsed", "oracle", "T=1", "collapsed"),
    Column("accuracy", "implied_reward", "-", "accuracy"),
    Column("accuracy_gold", "implied_reward", "-", "accuracy_gold"),
    Column("always_longer", "implied_reward", "-", "longer"),
    Column("auc", "implied_reward", "-", "auc"),
    Column("auc_always_longer", "implied_reward", "-", "auc_longer"),
    Column("margin", "implied_reward", "-", "margin"),
    Column("chosen_drift", "implied_reward", "-", "chosen_drift"),
    Column("rejected_drift", "implied_reward", "-", "rejected_drift"),
    *(
        Column(f"{skill}_{metric}", "lm_eval", "-", f"{skill}_{metric}")
        for skill in ("sort", "pick", "facts")
        for metric in ("accuracy", "gold_logp")
    ),
)
# Numbers of a whole run: key, scorer, task, metric; shown as the mean over seeds.
WHOLE = (
    ("utility_q05", "oracle", "T=1", "utility_q05"),
    ("distinct", "oracle", "T=1", "distinct"),
    ("temperature_star", "oracle", "T*", "temperature"),
    ("temperature_same_entropy", "oracle", SFT_AT_T, "temperature"),
)


class Tables(NamedTuple):
    """What a board says.

    Attributes:
        rows: one per method, best estimate first, controls last.
        contrasts: one per comparison.
        cost: one per run.
        notes: what a reader must know: conditions, gate, power, warnings.
        comparisons: what `contrasts` was made from.
        noise: of what the error of each difference is made.
    """

    rows: pd.DataFrame
    contrasts: pd.DataFrame
    cost: pd.DataFrame
    notes: list[str]
    comparisons: list[Comparison]
    noise: pd.DataFrame


def make_tables(setting: Setting, comparisons: list[Comparison]) -> Tables:
    """Make the tables of a board."""
    rank_of = ranks(setting, comparisons)
    records = [_row_record(setting, row, rank_of.get(row.name)) for row in setting.rows]
    rows = pd.DataFrame(records)
    primary = primary_key(setting)
    rows = rows.sort_values(["control", primary, "row"], ascending=[True, False, True], ignore_index=True)
    matched = _sft_at_t(setting, rows)
    if matched is not None:
        rows = pd.concat([rows, pd.DataFrame([matched])], ignore_index=True)
    rows = rows.dropna(axis="columns", how="all")
    noise = noise_table(setting, comparisons)
    return Tables(
        rows,
        contrast_table(setting, comparisons),
        _cost(setting),
        board_notes(setting, rows, comparisons, noise),
        comparisons,
        noise,
    )


def primary_key(setting: Setting) -> str:
    """Column of the primary metric at the primary decode."""
    return primary_column(setting).key


def primary_column(setting: Setting) -> Column:
    """The primary metric at the primary decode."""
    scorer, metric = setting.board.metric.split("/")
    decode = decodes(setting)[0]
    own = Column(metric, scorer, decode, metric)
    return next((c for c in COLUMNS if (c.scorer, c.decode, c.metric) == own[1:]), own)


def _row_record(setting: Setting, row: BoardRow, rank: tuple[int, int] | None) -> dict[str, Any]:
    reason = unranked_reason(setting, row)
    level = ", checkpoint-level" if len(row.completed) == 1 else ""
    record: dict[str, Any] = {
        "suite": setting.suite,
        "setting": setting.setting_id,
        "row": row.name,
        "loss": row.loss,
        "control": row.control,
        "rank_low": rank[0] if rank else None,
        "rank_high": rank[1] if rank else None,
        "note": f"{reason}{level}" if reason else "",
        "seeds": len(row.completed),
        "seeds_missing": len(row.missing),
        "seeds_diverged": len(row.records) - len(row.completed),
    }
    for column in dict.fromkeys([*COLUMNS, primary_column(setting)]):
        table = setting.table(row, column.scorer, column.decode, column.metric)
        record |= _interval(column.key, table)
    for key, scorer, task, metric in WHOLE:
        values = setting.scores(row, scorer, task, metric)
        record[key] = float(np.mean(values)) if values else None
    record |= _beyond_sharpening(setting, row)
    record |= _at_equal_length(setting, row)
    record |= _seed_facts(setting, row)
    tuning = row.any_record.recipe["tuning"]
    record["tuning_trials"] = tuning["trials"]
    record["tuning_seeds"] = tuning["seeds"]
    return record


def _beyond_sharpening(setting: Setting, row: BoardRow) -> dict[str, float | None]:
    """What a row wins over the SFT model that answers as surely as it does, by seed and prompt."""
    ways = (PRIMARY_DECODE, SFT_AT_T)
    own, sharpened = (setting.table(row, "oracle", decode, "winrate") for decode in ways)
    if own is None or sharpened is None or own.shape != sharpened.shape or len(own) < 2:
        return {}
    return _interval("beyond_sharpening", own - sharpened)


def _interval(key: str, table: Float[np.ndarray, "seeds prompts"] | None) -> dict[str, float | None]:
    """Mean and 95% interval; with one seed over prompts only, which says nothing of the method."""
    low = high = None
    if table is not None and table.shape[1] >= 2:
        if len(table) > 1:
            low, high = anova(table).interval()
        elif is_binary(table):  # Student's t would leave [0, 1], or know no error where all were won
            low, high = wilson(int(table.sum()), table.size)
        else:
            low, high = across_prompts(table[0]).interval()
    mean = None if table is None else float(table.mean())
    return {key: mean, f"{key}_low": low, f"{key}_high": high}


def _at_equal_length(setting: Setting, row: BoardRow) -> dict[str, Any]:
    """Length-controlled win rate, where the judge's rows have the lengths of what was compared."""
    scorer, decode = primary_column(setting)[1:3]
    places = [(scorer, decode, metric) for metric in ("winrate", LENGTH, BASELINE_LENGTH)]
    wins, ours, theirs = (setting.single_prompts(row, *place) for place in places)
    if wins is None or ours is None or theirs is None:
        return {}
    asked = [setting.prompt_ids(row, *place) for place in places]
    if not asked[0] == asked[1] == asked[2]:
        return {}
    facts: dict[str, Any] = {"length_ratio": float(ours.mean() / theirs.mean())}
    found = length_controlled(wins, ours - theirs, setting.groups(row, *places[0]))
    if found is not None:
        for key, value, ends in (
            ("lc_winrate", found.winrate, found.interval()),
            ("length_gamma", found.gamma.mean, found.gamma.interval()),
        ):
            facts |= {key: value, f"{key}_low": ends[0], f"{key}_high": ends[1]}
    return facts


def _seed_facts(setting: Setting, row: BoardRow) -> dict[str, Any]:
    """Groups of prompts, spread over seeds, collapses, and what the alignment spent."""
    facts: dict[str, Any] = {}
    column = primary_column(setting)
    table = setting.table(row, column.scorer, column.decode, column.metric)
    if table is not None and len(table) > 1:
        facts["seed_sd"] = float(table.mean(1).std(ddof=1))
    groups = setting.groups(row, column.scorer, column.decode, column.metric)
    if len(set(groups)) < len(groups):
        facts |= {"prompts": len(groups), "prompt_groups": len(set(groups))}
    collapses = setting.scores(row, "oracle", "T=1", "collapse")
    if collapses:
        count = int(sum(collapses))
        low, high = clopper_pearson(count, len(collapses))
        facts |= {"collapses": count, "collapse_low": low, "collapse_high": high}
    budgets = [record.budget for record in row.records.values() if record.budget is not None]
    if budgets:
        facts |= {
            "budget_multiple": budgets[0].multiple,
            "steps": float(np.mean([b.steps for b in budgets])),
            "completions": float(np.mean([b.completions for b in budgets])),
            "tokens": float(np.mean([b.tokens for b in budgets])),
            "flops": float(np.mean([b.flops for b in budgets])),
        }
    return facts


def _sft_at_t(setting: Setting, rows: pd.DataFrame) -> dict[str, Any] | None:
    """A control row: the SFT model, sampled as surely as the leading loss answers at T=1."""
    ranked = rows[~rows["control"] & (rows["note"] == "")]
    if ranked.empty or "sft_at_same_entropy" not in rows or ranked["sft_at_same_entropy"].isna().all():
        return None
    leader = setting.row(str(ranked.iloc[0]["row"]))
    if leader is None:
        return None
    table = setting.table(leader, "oracle", SFT_AT_T, "winrate")
    return {
        "suite": setting.suite,
        "setting": setting.setting_id,
        "row": f"{SFT_AT_T}, as sure as {leader.name}",
        "loss": "reference",
        "control": True,
        "note": "control",
        "seeds": len(leader.completed),
        "temperature_same_entropy": ranked.iloc[0]["temperature_same_entropy"],
        **_interval("winrate", table),
    }


def _cost(setting: Setting) -> pd.DataFrame:
    """Measured seconds of every run; these vary from time to time, unlike all else."""
    rows = []
    for row in setting.rows:
        for seed, record in row.records.items():
            timing = setting.store.timing(record.run_id)
            align = timing.get("align") or {}
            rows.append(
                {
                    "suite": setting.suite,
                    "setting": setting.setting_id,
                    "row": row.name,
                    "seed": seed,
                    "run_id": record.run_id,
                    "train_seconds": align.get("wall"),
                    "train_cpu_seconds": align.get("cpu"),
                    "score_seconds": sum(timing.get("scoring", {}).values()),
                    "peak_memory_bytes": timing.get("peak_memory_bytes"),
                }
            )
    return pd.DataFrame(rows).sort_values(["row", "seed"], ignore_index=True)


def rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Round floats to 6 significant digits, so that files do not depend on the last bits of a sum."""

    def significant(value: Any) -> Any:
        if isinstance(value, float) and math.isfinite(value):
            return float(f"{value:.6g}")
        return value

    return frame.map(significant)
