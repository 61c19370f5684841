"""Paired differences between the ranked losses: as a forest, and as a matrix of all pairs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from halobench.leaderboard.contrasts import NO_DECODE, decodes
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import (
    DARK,
    DECIDED,
    GREY,
    MARGIN,
    Plot,
    beside,
    bounds,
    canvas,
    head,
    label_rows,
    metric_title,
    shortened,
    size_text,
)
from halobench.leaderboard.stats import MIN_SEEDS
from halobench.leaderboard.tables import Tables, primary_key

# A suite that varies something has hundreds of pairs: nobody reads such a forest, and contrasts.csv has all.
MOST_PAIRS = 66
MOST_LOSSES = 24


def loss_pairs(setting: Setting, tables: Tables) -> pd.DataFrame:
    """The comparisons of the ranked losses at the primary decode, the largest difference first."""
    contrasts = tables.contrasts
    found = contrasts[(contrasts["family"] == "losses") & (contrasts["decode"] == decodes(setting)[0])]
    return found.sort_values(["difference", "a", "b"], ascending=[False, True, True], ignore_index=True)


def difference_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Forest of paired differences between ranked losses: Holm-adjusted intervals, the margin shaded."""
    pairs = loss_pairs(setting, tables)
    if not 0 < len(pairs) <= MOST_PAIRS:
        return None
    columns = ["a", "b", "difference", "adjusted_low", "adjusted_high", "p_holm", "verdict", "robust"]
    table = pairs[[*columns, "num_seeds", "num_prompts"]].assign(
        level=np.where(pairs["num_seeds"] >= MIN_SEEDS, "method", "checkpoint")
    )
    figure, axes = canvas(len(table))
    margin = setting.board.margin
    axes.axvspan(-margin, margin, color=MARGIN, zorder=0)
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    for y, (_, row) in enumerate(table.iterrows()):
        decided = row["adjusted_low"] > 0 or row["adjusted_high"] < 0
        colour = DECIDED if decided else GREY
        axes.errorbar(
            row["difference"],
            y,
            xerr=bounds(row["adjusted_low"], row["adjusted_high"], row["difference"]),
            fmt="o",
            color=colour,
            markerfacecolor=colour if decided else "white",
            capsize=3,
            zorder=3,
        )
        robust = {"True": ", robust", "False": ", not robust"}.get(str(row["robust"]), "")
        said = f"{row['verdict']}{robust if decided else ''}"
        beside(axes, y, f"{said}, {_p_text(row['p_holm'])}", colour if decided else DARK)
    axes.set_xlabel(f"difference in {metric_title(primary_key(setting))}")
    primary = decodes(setting)[0]
    where = setting.suite if primary == NO_DECODE else f"{setting.suite}, {primary}"
    levels = " and ".join(sorted(set(table["level"])))
    head(
        axes,
        f"{where}: paired differences, {levels}-level, Holm-adjusted 95% intervals;\n"
        f"{size_text(table['num_seeds'], table['num_prompts'])}; shaded: margin +-{margin:g}",
    )
    label_rows(axes, [f"{row['a']} - {row['b']}" for _, row in table.iterrows()])
    return Plot(
        "differences",
        "Paired differences between the ranked losses",
        "One line per pair of losses: the difference of the primary metric, its Holm-adjusted interval, and "
        "what it means for the first, with its adjusted p-value. Intervals that exclude zero are filled.",
        figure,
        table,
    )


def _p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def matrix_plot(setting: Setting, tables: Tables) -> Plot | None:
    """All ranked losses against each other: the difference as number and colour, hatched where undecided."""
    pairs = loss_pairs(setting, tables)
    names = [name for name in tables.rows["row"] if name in {*pairs["a"], *pairs["b"]}]
    if not 3 <= len(names) <= MOST_LOSSES:
        return None
    columns = ["a", "b", "difference", "adjusted_low", "adjusted_high", "separated", "num_seeds"]
    there = pairs[[*columns, "num_prompts"]]
    back = there.assign(
        a=there["b"],
        b=there["a"],
        difference=-there["difference"],
        adjusted_low=-there["adjusted_high"],
        adjusted_high=-there["adjusted_low"],
    )
    table = pd.concat([there, back], ignore_index=True)
    limit = float(table["difference"].abs().max()) or 1.0
    size = max(4.5, 0.62 * len(names))
    figure = Figure(figsize=(size + 3.0, size + 0.4), layout="constrained")
    axes = figure.subplots()
    grid = np.full((len(names), len(names)), np.nan)
    for _, row in table.iterrows():
        grid[names.index(row["a"]), names.index(row["b"])] = row["difference"]
    image = axes.imshow(grid, cmap="PuOr", vmin=-limit, vmax=limit)
    for _, row in table.iterrows():
        y, x = names.index(row["a"]), names.index(row["b"])
        if not row["separated"]:
            box = Rectangle(
                (x - 0.5, y - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#9a9a9a", linewidth=0
            )
            axes.add_patch(box)
        axes.text(
            x,
            y,
            f"{row['difference']:+.3f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if row["separated"] and abs(row["difference"]) > 0.6 * limit else "black",
            bbox=None if row["separated"] else {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )
    axes.set_xticks(range(len(names)), [shortened(name) for name in names], parse_math=False, rotation=90)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.8, label=f"line - column, {metric_title(primary_key(setting))}")
    tied = int((~there["separated"].astype(bool)).sum())
    head(
        axes,
        f"{setting.suite}: {tied} of {len(there)} pairs not separable (hatched)\n"
        f"{size_text(there['num_seeds'], there['num_prompts'])}",
    )
    return Plot(
        "pairs",
        "Every ranked loss against every other",
        "A square table: the number in a line and a column is the metric of the line's loss minus the "
        "column's. Hatched where the pair is not separated after Holm's correction; the diagonal is empty.",
        figure,
        table,
    )
