"""The page of a setting: its notes, its board, its figures, every comparison, and what its data were."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

from halobench.leaderboard.page.board import metric_title
from halobench.leaderboard.page.columns import number_text, numeric_columns
from halobench.leaderboard.page.facts import (
    View,
    board_id,
    contrast_path,
    data_facts,
    row_id,
    run_path,
    shown_run,
    span,
)
from halobench.leaderboard.text import display_records
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


def setting_context(view: View, is_chosen: bool) -> dict[str, Any]:
    """What the template of a setting needs.

    Args:
        view: of its board.
        is_chosen: whether it has figures, and pages of comparisons and runs.
    """
    board, records = view.board, view.records
    headers, cells = display_records(board, records)
    setting = board.setting
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
                "cells": [line[0], view.letters.get(name, ""), *line[2:]],
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
        "anchor": board_id(board),
        "is_chosen": is_chosen,
        "contrast_headers": CONTRAST_HEADERS,
        "contrasts": [
            {
                "first": str(line["a"]),
                "second": str(line["b"]),
                "page": contrast_path(board, str(line["a"]), str(line["b"])),
                "cells": _contrast_cells(line),
            }
            for line in board.tables.contrasts.to_dict("records")
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


def _contrast_cells(line: Mapping[Hashable, Any]) -> list[str]:
    """A comparison as text, without the rows that it compares."""
    return [
        str(line["decode"]),
        f"{line['difference']:+.3f}",
        span(line["low"], line["high"]),
        span(line["adjusted_low"], line["adjusted_high"]),
        f"{line['p_holm']:.2g}",
        str(line["verdict"]),
        {"True": "yes", "False": "no"}.get(str(line["robust"]), ""),
        f"{line['detectable']:.3f}",
        str(line["family"]),
    ]


@cache
def run_command(suite: str) -> str:
    """The command that makes the runs of a suite; a recipe of one's own has to be named by its file."""
    names = builtin_recipes()
    own = [name for name in names if name == suite or name.rpartition("/")[2] == suite]
    return f"halobench run {min(own, key=len)}" if own else "halobench run RECIPE.yaml"
