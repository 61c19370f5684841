"""The board: every row of every setting in one table, and what its script needs beside."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, get_args

from halobench.leaderboard.contrasts import SECOND_DECODE, decodes
from halobench.leaderboard.page.columns import Numbers, number_text, numeric_columns
from halobench.leaderboard.page.facts import (
    View,
    board_id,
    compared,
    row_id,
    run_path,
    separability,
    setting_path,
    shown_run,
)
from halobench.leaderboard.stats import Verdict, verdict
from halobench.leaderboard.tables import COLUMNS, primary_column, primary_key
from halobench.leaderboard.text import (
    FIRST,
    BuiltBoard,
    Shown,
    cell_text,
    display_columns,
    note_text,
    rank_text,
)

_TITLES = {"winrate": "win rate", "accuracy": "reward accuracy", "auc": "AUC of the implied reward"}
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_DIGITS = 4


def board_context(views: Sequence[View], chosen: frozenset[str]) -> dict[str, Any]:
    """What the template of the board needs.

    Args:
        views: all boards.
        chosen: stems of the boards whose runs have pages.
    """
    boards = [view.board for view in views]
    second = {id(board): _second_key(board) for board in boards}
    shown = _shown(boards, second)
    more = [
        column
        for column in numeric_columns([board.tables.rows for board in boards])
        if column.key not in {"seeds", *(s.key for s in shown)}
    ]
    groups = [_group(view, shown, second[id(view.board)], chosen) for view in views]
    return {
        "columns": shown,
        "usual": _usual(groups, shown),
        "more": _by_group(more),
        "groups": groups,
        "suites": sorted({board.setting.suite for board in boards}),
        "losses": sorted({str(loss) for board in boards for loss in board.tables.rows["loss"]}),
        "baselines": sorted({str(name) for board in boards for name in board.tables.rows["row"]}),
        "data": {
            "verdicts": _VERDICTS,
            "columns": [[c.key, c.title] for c in more],
            "boards": [_data(view, more, second[id(view.board)]) for view in views],
        },
    }


def metric_title(board: BuiltBoard) -> str:
    """The primary metric and how the texts were sampled, in words."""
    key = primary_column(board.setting).metric
    decode = decodes(board.setting)[0]
    return _TITLES.get(key, key.replace("_", " ")) + ("" if decode == "-" else f", {decode}")


def _second_key(board: BuiltBoard) -> str | None:
    """Column of the primary metric at the second decode, if the board has one."""
    primary = primary_column(board.setting)
    own = (primary.scorer, SECOND_DECODE, primary.metric)
    key = next((c.key for c in COLUMNS if (c.scorer, c.decode, c.metric) == own), None)
    return key if key in board.tables.rows else None


def _shown(boards: Sequence[BuiltBoard], second: Mapping[int, str | None]) -> list[Shown]:
    """The columns beside the primary ones: what any of the boards shows first."""
    found = {
        column.key
        for board in boards
        for column in display_columns(board)[1:]
        if column.key != second[id(board)]
    }
    return [column for column in FIRST if column.key in found]


def _usual(groups: Sequence[Mapping[str, Any]], shown: Sequence[Shown]) -> set[str]:
    """Columns that a third of all rows have; the others wait in the column chooser."""
    rows = [row["cells"][2:] for group in groups for row in group["rows"]]
    return {s.key for k, s in enumerate(shown) if 3 * sum(row[k] != ("", "") for row in rows) >= len(rows)}


def _by_group(columns: Sequence[Numbers]) -> dict[str, list[Numbers]]:
    groups: dict[str, list[Numbers]] = {}
    for column in columns:
        groups.setdefault(column.group, []).append(column)
    return groups


def _group(view: View, shown: Sequence[Shown], second: str | None, chosen: frozenset[str]) -> dict[str, Any]:
    """A setting: its header and its rows."""
    board, records = view.board, view.records
    key = primary_key(board.setting)
    own = {column.key for column in display_columns(board)[1:]}
    place = _places(records, key)
    is_chosen = board.stem in chosen
    rows = []
    for record in records:
        name = str(record["row"])
        row = board.setting.row(name) if is_chosen else None  # of the others no run is read for this
        run = None if row is None else shown_run(row)
        cells = [cell_text(record, key, "interval"), cell_text(record, second, "interval") if second else ""]
        cells += [cell_text(record, s.key, s.how) if s.key in own else "" for s in shown]
        rows.append(
            {
                "id": row_id(board, name),
                "name": name,
                "page": run_path(run.run_id) if run else setting_path(board),
                "rank": rank_text(record),
                "letters": view.letters.get(name, ""),
                "loss": str(record["loss"]),
                "level": _level(record),
                "cells": [_split(cell) for cell in cells],
                "whisker": place(record),
                "seeds": record["seeds"],
                "note": note_text(record),
            }
        )
    return {
        "id": board_id(board),
        "suite": board.setting.suite,
        "page": setting_path(board),
        "metric": metric_title(board),
        "margin": board.setting.board.margin,
        "separability": separability(board),
        "rows": rows,
    }


def _split(cell: str) -> tuple[str, str]:
    """The estimate and its interval apart."""
    value, _, interval = cell.partition(" ")
    return value, interval


def _level(record: Mapping[Hashable, Any]) -> str:
    if record["control"]:
        return "control"
    if rank_text(record) != "-":
        return "ranked"
    return "checkpoint-level" if record["seeds"] == 1 else "unranked"


def _places(records: Sequence[Mapping[Hashable, Any]], key: str) -> Any:
    """Where the interval of a row is drawn, on the axis that all rows of its setting share: 0 to 100."""
    ends = [
        float(record[name])
        for record in records
        for name in (key, f"{key}_low", f"{key}_high")
        if record.get(name) is not None and math.isfinite(record[name])
    ]
    low, width = (min(ends), max(ends) - min(ends)) if ends else (0.0, 0.0)

    def place(record: Mapping[Hashable, Any]) -> list[str] | None:
        found = [record.get(name) for name in (f"{key}_low", key, f"{key}_high")]
        if width == 0 or any(value is None or not math.isfinite(value) for value in found):
            return None
        return [f"{2 + 96 * (value - low) / width:.1f}" for value in found if value is not None]

    return place


def _data(view: View, more: Sequence[Numbers], second: str | None) -> dict[str, Any]:
    """What the script needs of a setting: further columns, and the primary metric's comparisons."""
    board, records = view.board, view.records
    index = {str(record["row"]): place for place, record in enumerate(records)}
    both = decodes(board.setting)
    margin = board.setting.board.margin
    return {
        "more": {
            column.key: texts
            for column in more
            if any(texts := [number_text(record, column.key) for record in records])
        },
        "estimates": [
            [_number(record.get(key)) for record in records] if key else []
            for key in (primary_key(board.setting), second)
        ],
        "compared": [
            [
                index[c.first],
                index[c.second],
                both.index(c.decode),
                *map(_number, (c.estimate.mean, c.adjusted.low, c.adjusted.high)),
                _VERDICTS.index(c.verdict(margin)),
                _VERDICTS.index(verdict(-c.adjusted.high, -c.adjusted.low, margin)),
            ]
            for pair in compared(board)
            for c in pair.comparisons
        ],
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, _DIGITS)
