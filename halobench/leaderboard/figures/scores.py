"""The primary metric of every row of a board, with its intervals and seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import (
    CONTROL,
    GREY,
    LossStyle,
    Plot,
    bounds,
    canvas,
    head,
    label_rows,
    metric_title,
    row_styles,
    size_text,
)
from halobench.leaderboard.tables import Tables, primary_column, primary_key


def score_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Dots with 95% intervals: the primary metric of every row at both decodes, seeds as small dots."""
    key = primary_key(setting)
    rows = tables.rows
    if key not in rows or rows[key].isna().all():
        return None
    keys = [key, *([f"{key}_star"] if f"{key}_star" in rows else [])]
    ends = [name for k in keys for name in (k, f"{k}_low", f"{k}_high") if name in rows]
    values = _seed_means(setting, list(rows["row"]))
    table = rows[["row", "control", "note", "seeds", *ends]].assign(
        num_prompts=[values[name][1] for name in rows["row"]]
    )
    names = list(table["row"])
    styles = row_styles(setting.rows)
    figure, axes = canvas(len(names))
    for y, (_, row) in enumerate(table.iterrows()):
        style = styles.get(row["row"], CONTROL)
        _draw_row(axes, y, row, keys, style, values[row["row"]][0])
    reference = next((float(v) for n, v in zip(names, table[key], strict=True) if n == "reference"), None)
    if reference is not None:
        axes.axvline(reference, color=GREY, linestyle="--", linewidth=1, zorder=1)
    axes.set_xlabel(metric_title(key))
    decode = "filled: T=1, open: T*; " if len(keys) > 1 else ""
    sizes = size_text(table["seeds"], [n for n in table["num_prompts"] if n])
    head(axes, f"{setting.suite}: {decode}95% intervals, {sizes}")
    label_rows(axes, names)
    return Plot(
        "scores",
        f"By row: {metric_title(key)}",
        "One line per row of the board: a dot for the estimate with its 95% interval, small dots for seeds"
        + ("; a dashed line marks the reference" if reference is not None else "")
        + ". The numbers are in the table below it.",
        figure,
        table,
    )


def _draw_row(
    axes: Axes, y: float, row: pd.Series, keys: list[str], style: LossStyle, seeds: np.ndarray
) -> None:
    """One line: the estimates, filled where the row is ranked or a control, and its seeds above."""
    hollow = row["note"] not in ("", "control")
    axes.scatter(seeds, np.full(len(seeds), y - 0.22), color=style.colour, s=14, alpha=0.7, linewidth=0)
    for key in keys:
        is_primary = key == keys[0]
        if pd.isna(row[key]):
            continue
        axes.errorbar(
            row[key],
            y + (0.0 if is_primary else 0.25),
            xerr=bounds(row.get(f"{key}_low", np.nan), row.get(f"{key}_high", np.nan), row[key]),
            fmt=style.marker,
            color=style.colour,
            markersize=7 if is_primary else 5,
            markerfacecolor=style.colour if is_primary and not hollow else "white",
            capsize=3 if is_primary else 0,
            linewidth=1.6 if is_primary else 0.9,
            zorder=3,
        )


def _seed_means(setting: Setting, names: list[str]) -> dict[str, tuple[np.ndarray, int]]:
    """For each row the mean of every seed, and how many prompts; nothing and 0 where they are unknown."""
    column = primary_column(setting)
    found = {}
    for name in names:
        row = setting.row(name)
        table = None if row is None else setting.table(row, column.scorer, column.decode, column.metric)
        found[name] = (np.zeros(0), 0) if table is None else (table.mean(1), table.shape[1])
    return found
