"""The page of the searches for hyper-parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from halobench.leaderboard import tuning_text
from halobench.leaderboard.beside import BuiltTuning
from halobench.leaderboard.page.render import slug


def tuning_context(found: Sequence[BuiltTuning]) -> dict[str, Any]:
    """What the template of the searches needs."""
    return {
        "title": tuning_text.TITLE,
        "notes": tuning_text.NOTES,
        "searches": [
            {
                "id": f"search--{slug(built.stem)}",
                "suite": built.tuning.suite,
                "metric": built.tuning.metric,
                "missing": tuning_text.missing(built.tuning),
                "chosen": tuning_text.chosen_lines(built.tuning),
                "settings": _lines(built.tuning.settings.drop(columns=["suite", "loss", "is_default"])),
                "figures": [
                    {
                        "file": f"figures/{built.stem}-{plot.name}",
                        "title": plot.title,
                        "text": plot.description,
                    }
                    for plot in built.plots
                ],
            }
            for built in found
        ],
    }


def _lines(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    rows = [[_text(value) for value in row.values()] for row in table.to_dict("records")]
    return [f"{name[0].upper()}{name[1:]}" for name in table.columns], rows


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.3g}"
    return str(value)
