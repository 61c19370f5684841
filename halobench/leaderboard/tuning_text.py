"""Searches as text: what was chosen for every loss, beside its default and its median setting."""

from __future__ import annotations

import math
from collections.abc import Sequence

from halobench.leaderboard.published_text import markdown_lines, markdown_text
from halobench.leaderboard.tuning import Tuning, tuned_values

TITLE = "Searches for hyper-parameters"
NOTES = (
    "As many settings of every loss, drawn from priors that the recipe declares, judged on dev prompts and "
    "seeds that no board uses; the score is the mean over seeds and both temperatures.",
    "The best of many settings is flattered by its score; the boards' prompts and seeds are others.",
    "By labels: the score of the setting that held-out labels choose, as where nobody knows better.",
)
HEADERS = ["Loss", "Settings", "Seeds", "Default", "Median", "Tuned", "By labels", "Chosen"]


def chosen_lines(tuning: Tuning) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of what a search chose."""
    values = dict(tuned_values(tuning))
    rows = []
    for row in tuning.chosen.to_dict("records"):
        numbers = [row["default"], row["median"], row["tuned"], row.get("tuned_by_labels", math.nan)]
        chosen = ", ".join(f"{key} {value:g}" for key, value in values[row["loss"]].items())
        rows.append(
            [
                str(row["loss"]),
                str(row["settings"]),
                str(row["seeds"]),
                *("" if math.isnan(value) else f"{value:.3f}" for value in numbers),
                f"{row['chosen']}: {chosen}",
            ]
        )
    return HEADERS, rows


def tuning_markdown(found: Sequence[Tuning]) -> list[str]:
    """Lines of the section."""
    lines = [f"## {TITLE}", "", *(f"- {note}" for note in NOTES), ""]
    for tuning in found:
        lines += [f"`{markdown_text(tuning.suite)}`, {markdown_text(tuning.metric)}{missing(tuning)}:", ""]
        lines += [*markdown_lines(*chosen_lines(tuning)), ""]
    return lines


def missing(tuning: Tuning) -> str:
    """What is not recorded yet, in words."""
    return f"; {tuning.missing} of its runs are missing" if tuning.missing else ""
