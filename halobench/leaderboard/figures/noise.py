"""Where the error of the differences comes from: whether to add seeds or prompts."""

from __future__ import annotations

import numpy as np

from halobench.leaderboard.contrasts import NO_DECODE, decodes
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import (
    Plot,
    beside,
    canvas,
    head,
    label_rows,
    legend_below,
    size_text,
)
from halobench.leaderboard.noise_table import POOLED, noise_table
from halobench.leaderboard.tables import Tables

_MOST_PAIRS = 30
# colour and hatch of each part
_PARTS = (
    ("seeds", "#0173b2", "", "seeds: sd^2 / S"),
    ("prompts", "#e69f5c", "///", "prompts: sd^2 / P"),
    ("rest", "#e4e4e4", "", "what is left in a cell: sd^2 / SP"),
)


def noise_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Stacked bars: the parts of each difference's error variance, largest first, all pairs on top."""
    shown = set(tables.rows["row"])
    kept = [c for c in tables.comparisons if {c.first, c.second} <= shown]
    table = noise_table(setting, kept)
    if table.empty:
        return None
    primary = decodes(setting)[0]
    table = table[table["decode"] == primary]
    table = table.assign(pooled=table["a"] == POOLED).sort_values(
        ["pooled", "stderr", "a", "b"], ascending=[False, False, True, True], ignore_index=True
    )
    num_pairs = len(table) - 1
    table = table.head(_MOST_PAIRS + 1)  # the largest errors; noise.csv has all
    table = table.drop(columns=["suite", "setting", "decode", "metric", "pooled"])
    names = [row["a"] if row["a"] == POOLED else f"{row['a']} - {row['b']}" for _, row in table.iterrows()]
    figure, axes = canvas(len(names) + 1)
    left = np.zeros(len(table))
    bars = []
    for part, colour, hatch, label in _PARTS:
        width = (table[f"share_{part}"] * table["stderr"] ** 2 * 1e4).to_numpy(float)
        bars.append(
            axes.barh(
                range(len(table)),
                width,
                left=left,
                height=0.62,
                color=colour,
                hatch=hatch,
                edgecolor="#333333",
                linewidth=0.6,
                label=label,
            )
        )
        left += width
    for y, (_, row) in enumerate(table.iterrows()):
        beside(axes, y, f"finds {row['detectable']:.3f}; more {row['more_of']}")
    axes.set_xlim(0, float(left.max()) * 1.03)
    axes.set_xlabel("error variance of the difference, in squared hundredths of the metric")
    which = "the paired" if num_pairs <= _MOST_PAIRS else f"{_MOST_PAIRS} of {num_pairs} (the largest) paired"
    where = setting.suite if primary == NO_DECODE else f"{setting.suite}, {primary}"
    head(
        axes,
        f"{where}: error of {which} differences, {size_text(table['num_seeds'], table['num_prompts'])}\n"
        "right: difference found with a power of 80%, and what to add",
    )
    label_rows(axes, names)
    legend_below(figure, bars, 3)
    return Plot(
        "noise",
        "Where the error of the differences comes from",
        "One bar per pair of losses and one for all together: the error variance of the difference in three "
        "parts, due to seeds, to prompts, and to what is left. At the right the smallest difference that is "
        "found with a power of 80%, and of what twice as many would help more.",
        figure,
        table,
    )
