"""The page of a setting: its notes, its board, its figures, every comparison, and what its data were."""

from __future__ import annotations

from typing import Any

from halobench.leaderboard.contrasts import Comparison
from halobench.leaderboard.page.board import metric_title
from halobench.leaderboard.page.columns import number_text, numeric_columns
from halobench.leaderboard.page.facts import (
    Compared,
    compared,
    data_facts,
    robust_text,
    row_id,
    row_letters,
    run_path,
    shown_run,
    span,
)
from halobench.leaderboard.text import BuiltBoard, display_table
from halobench.recipe_file import builtin_recipes

CONTRAST_HEADERS = (
    "Comparison",
    "Decode",
    "Difference",
    "95% interval",
    "Adjusted interval",
    "p (Holm)",
    "Verdict",
    "Robust",
    "Detectable",
    "Family",
)


def setting_context(board: BuiltBoard, is_chosen: bool) -> dict[str, Any]:
    """What the template of a setting needs.

    Args:
        board: of the setting.
        is_chosen: whether it has figures, and pages of comparisons and runs.
    """
    headers, cells = display_table(board)
    tied = row_letters(board)
    setting = board.setting
    records = board.tables.rows.to_dict("records")
    rows = []
    for record, line in zip(records, cells, strict=True):
        name = str(record["row"])
        row = setting.row(name)
        run = None if row is None else shown_run(row)
        rows.append(
            {
                "id": row_id(board, name),
                "name": name,
                "page": run_path(run.run_id) if is_chosen and run else None,
                "control": bool(record["control"]),
                "cells": [line[0], tied.get(name, ""), *line[2:]],
            }
        )
    return {
        "suite": setting.suite,
        "setting_id": setting.setting_id,
        "metric": setting.board.metric,
        "metric_title": metric_title(board),
        "margin": setting.board.margin,
        "notes": board.tables.notes,
        "headers": [headers[0], "Letters", *headers[1:]],
        "rows": rows,
        "figures": [
            {"file": f"figures/{board.stem}-{plot.name}", "title": plot.title, "text": plot.description}
            for plot in board.plots
        ],
        "stem": board.stem,
        "is_chosen": is_chosen,
        "contrast_headers": CONTRAST_HEADERS,
        "contrasts": [
            {"pair": pair, "cells": contrast_cells(pair, c, setting.board.margin)}
            for pair in compared(board)
            for c in pair.comparisons
        ],
        "numbers": [
            (column, [number_text(record, column.key) for record in records])
            for column in numeric_columns([board.tables.rows])
        ],
        "missing": [(row.name, list(row.missing)) for row in setting.rows if row.missing],
        "diverged": [
            (row.name, seed, record.run_id, record.reason)
            for row in setting.rows
            for seed, record in row.records.items()
            if record.status != "completed"
        ],
        "retracted": setting.retracted,
        "data": data_facts(setting),
        "command": run_command(setting.suite),
    }


def contrast_cells(pair: Compared, comparison: Comparison, margin: float) -> list[str]:
    """A comparison as text, without the rows that it compares."""
    return [
        comparison.decode,
        f"{comparison.estimate.mean:+.3f}",
        span(*comparison.estimate.interval()),
        span(comparison.adjusted.low, comparison.adjusted.high),
        f"{comparison.adjusted.p:.2g}",
        comparison.verdict(margin),
        robust_text(pair.comparisons, comparison),
        f"{comparison.estimate.detectable:.3f}",
        comparison.family,
    ]


def run_command(suite: str) -> str:
    """The command that makes the runs of a suite; a recipe of one's own has to be named by its file."""
    names = builtin_recipes()
    own = [name for name in names if name == suite or name.rpartition("/")[2] == suite]
    return f"halobench run {min(own, key=len)}" if own else "halobench run RECIPE.yaml"
