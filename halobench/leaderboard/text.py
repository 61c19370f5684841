"""A board as text: the columns that people read first, and the Markdown around them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from halobench.leaderboard.beside import Beside
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import Plot
from halobench.leaderboard.imported import imported_markdown
from halobench.leaderboard.published_text import markdown_lines, markdown_text, published_markdown
from halobench.leaderboard.tables import Tables, primary_key
from halobench.leaderboard.tuning_text import tuning_markdown


class BuiltBoard(NamedTuple):
    """A board with everything that is shown of it.

    Attributes:
        setting: the runs.
        tables: its tables.
        plots: its figures.
        stem: beginning of the names of its files.
    """

    setting: Setting
    tables: Tables
    plots: list[Plot]
    stem: str


def render_markdown(boards: Sequence[BuiltBoard], version: str, beside: Beside) -> str:
    """The leaderboard as Markdown: a table and the notes of each board, then what stands beside them."""
    parts = ["# Leaderboard", ""]
    if not boards:
        parts += ["No suite has been run yet: `halobench run quickstart`.", ""]
    for board in boards:
        parts += [f"## {markdown_text(board.setting.suite)}", ""]
        parts += [f"Setting `{board.setting.setting_id}`, primary metric `{board.setting.board.metric}`.", ""]
        parts += [*markdown_table(board), ""]
        parts += [f"- {markdown_text(note)}" for note in board.tables.notes]
        parts += ["", *(f"![{plot.title}](figures/{board.stem}-{plot.name}.svg)\n" for plot in board.plots)]
    parts += tuning_markdown([built.tuning for built in beside.tunings]) if beside.tunings else []
    parts += [] if beside.published is None else published_markdown(beside.published)
    parts += imported_markdown(beside.imported) if len(beside.imported) else []
    parts += [
        "Rank intervals hold jointly at 95% (Holm). Win rates count ties half. `index.html` shows the same "
        "with sorting and filters, and leads to the page of each setting (`setting/`), of comparisons "
        "(`contrast/`) and runs (`run/`) with samples side by side, and to the methods (`methods.html`).",
        "",
        f"Made by `halobench leaderboard` from results `{version}`.",
        "",
    ]
    return "\n".join(parts)


def markdown_table(board: BuiltBoard) -> list[str]:
    """Lines of the board's table."""
    return markdown_lines(*display_table(board))


class Shown(NamedTuple):
    """A column that people read first.

    Attributes:
        key: of the rows.
        title: in words.
        how: its numbers are written: "interval", "change" (one with a sign), "share", "signed" or "plain".
    """

    key: str
    title: str
    how: str


_TITLES = {"winrate": "Win rate, T=1", "auc": "AUC"}
FIRST = (
    Shown("winrate_star", "Win rate, T*", "interval"),
    Shown("lc_winrate", "At equal length", "interval"),
    Shown("beyond_sharpening", "Beyond SFT as sure", "change"),
    Shown("winrate_reference", "Beats reference", "share"),
    Shown("utility", "Utility", "signed"),
    Shown("kl", "KL, nats", "plain"),
    Shown("accuracy", "Reward accuracy", "interval"),
    Shown("always_longer", "Always longer", "share"),
    Shown("auc_always_longer", "AUC of longer", "share"),
    Shown("pick_accuracy", "Retained pick", "share"),
    Shown("facts_accuracy", "Retained facts", "share"),
)
# What always preferring the longer answer would give, where that is what the metric is held against.
_YARDSTICKS = {"always_longer": "accuracy", "auc_always_longer": "auc"}


def display_columns(board: BuiltBoard) -> list[Shown]:
    """The columns that people read first, the primary metric before all."""
    primary = primary_key(board.setting)
    title = _TITLES.get(primary, primary.replace("_", " ").capitalize())
    return [
        Shown(primary, title, "interval"),
        *(
            column
            for column in FIRST
            if column.key in board.tables.rows
            and column.key != primary
            and _YARDSTICKS.get(column.key, primary) == primary
        ),
    ]


def display_table(board: BuiltBoard) -> tuple[list[str], list[list[str]]]:
    """The few columns that people read first, as text."""
    return display_records(board, board.tables.rows.to_dict("records"))


def display_records(
    board: BuiltBoard, records: Sequence[Mapping[Hashable, Any]]
) -> tuple[list[str], list[list[str]]]:
    """The same of rows that were read already."""
    shown = [column for column in display_columns(board) if column.key in board.tables.rows]
    headers = ["Rank", "Row", *(column.title for column in shown), "Seeds", "Note"]
    rows = [
        [
            rank_text(record),
            str(record["row"]),
            *(cell_text(record, column.key, column.how) for column in shown),
            f"{record['seeds']}",
            note_text(record),
        ]
        for record in records
    ]
    return headers, rows


def note_text(record: Mapping[Hashable, Any]) -> str:
    """Why a row has no rank, or nothing."""
    note = record.get("note")
    return note if isinstance(note, str) else ""


def rank_text(record: Mapping[Hashable, Any]) -> str:
    """The rank interval: 1, 1-3, or a dash."""
    if "rank_low" not in record or pd.isna(record["rank_low"]):
        return "-"
    low, high = int(record["rank_low"]), int(record["rank_high"])
    return f"{low}" if low == high else f"{low}-{high}"


def cell_text(record: Mapping[Hashable, Any], key: str, how: str) -> str:
    """A number of a row as text, with its interval where it has one; empty where there is none."""
    value: Any = record.get(key)
    if value is None or pd.isna(value):
        return ""
    low, high = record.get(f"{key}_low"), record.get(f"{key}_high")
    number = {"signed": "+.2f", "plain": ".2f", "change": "+.3f"}.get(how, ".3f")
    if how in ("interval", "change") and low is not None and not math.isnan(float(low)):
        return f"{value:{number}} [{low:{number}}, {high:{number}}]"
    return f"{value:{number}}"
