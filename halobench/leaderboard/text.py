"""A board as text: the columns that people read first, and the Markdown around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import Plot
from halobench.leaderboard.published_text import BuiltPublished, markdown_lines, published_markdown
from halobench.leaderboard.tables import Tables, primary_key


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


def render_markdown(
    boards: Sequence[BuiltBoard], version: str, published: BuiltPublished | None = None
) -> str:
    """The leaderboard as Markdown: a table and the notes of each board, then what others published."""
    parts = ["# Leaderboard", ""]
    if not boards:
        parts += ["No suite has been run yet: `halobench run quickstart`.", ""]
    for board in boards:
        parts += [f"## {board.setting.suite}", ""]
        parts += [f"Setting `{board.setting.setting_id}`, primary metric `{board.setting.board.metric}`.", ""]
        parts += [*markdown_table(board), ""]
        parts += [f"- {note}" for note in board.tables.notes]
        parts += ["", *(f"![{plot.title}](figures/{board.stem}-{plot.name}.svg)\n" for plot in board.plots)]
    parts += [] if published is None else published_markdown(published)
    parts += [
        "Rank intervals hold jointly at 95% (Holm). Win rates count ties half. `index.html` shows the same "
        "with sorting, every comparison and the methods.",
        "",
        f"Made by `halobench leaderboard` from results `{version}`.",
        "",
    ]
    return "\n".join(parts)


def markdown_table(board: BuiltBoard) -> list[str]:
    """Lines of the board's table."""
    return markdown_lines(*display_table(board))


def display_table(board: BuiltBoard) -> tuple[list[str], list[list[str]]]:
    """The few columns that people read first, as text."""
    frame = board.tables.rows
    primary = primary_key(board.setting)
    wanted: list[tuple[str, str, str]] = [
        (
            primary,
            {"winrate": "Win rate, T=1", "auc": "AUC"}.get(primary, primary.replace("_", " ").capitalize()),
            "interval",
        ),
        ("winrate_star", "Win rate, T*", "interval"),
        ("sft_at_same_entropy", "SFT as sure", "share"),
        ("winrate_reference", "Beats reference", "share"),
        ("utility", "Utility", "signed"),
        ("kl", "KL, nats", "plain"),
        ("accuracy", "Reward accuracy", "interval"),
        *([("always_longer", "Always longer", "share")] if primary == "accuracy" else []),
        *([("auc_always_longer", "AUC of longer", "share")] if primary == "auc" else []),
        ("pick_accuracy", "Retained pick", "share"),
        ("facts_accuracy", "Retained facts", "share"),
    ]
    shown = [
        (k, title, how) for i, (k, title, how) in enumerate(wanted) if k in frame and (i == 0 or k != primary)
    ]
    headers = ["Rank", "Row", *(title for _, title, _ in shown), "Seeds", "Note"]
    rows = []
    for _, row in frame.iterrows():
        seeds = f"{row['seeds']}"
        note = row["note"] if isinstance(row["note"], str) else ""
        rows.append(
            [rank_text(row), str(row["row"]), *(_cell(row, key, how) for key, _, how in shown), seeds, note]
        )
    return headers, rows


def rank_text(row: pd.Series) -> str:
    """The rank interval: 1, 1-3, or a dash."""
    if "rank_low" not in row or pd.isna(row["rank_low"]):
        return "-"
    low, high = int(row["rank_low"]), int(row["rank_high"])
    return f"{low}" if low == high else f"{low}-{high}"


def _cell(row: pd.Series, key: str, how: str) -> str:
    value: Any = row[key]
    if pd.isna(value):
        return ""
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if how == "interval" and low is not None and not math.isnan(float(low)):
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return {"signed": f"{value:+.2f}", "plain": f"{value:.2f}"}.get(how, f"{value:.3f}")
