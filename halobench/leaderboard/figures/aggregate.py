"""The losses over several settings together: how much, how often, and how reliably."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from halobench.leaderboard.aggregate import Aggregate
from halobench.leaderboard.figures.style import (
    WIDTH,
    Plot,
    bounds,
    handle,
    head,
    legend_below,
    loss_styles,
    metric_title,
    size_text,
)


def aggregate_plots(found: Aggregate) -> list[Plot]:
    """Draw the aggregates, and the profiles behind them."""
    return [_aggregate_plot(found), _profile_plot(found)]


def _aggregate_plot(found: Aggregate) -> Plot:
    """Left: interquartile means. Right: how often a run of one loss beats a run of another."""
    means = found.table[found.table["kind"] == "iqm"].sort_values(["est", "a"], ascending=[False, True])
    names = list(means["a"])
    styles = loss_styles(names)
    chances = found.table[(found.table["kind"] == "p_improvement") & found.table["b"].isin(names)]
    figure = Figure(figsize=(WIDTH + 1.5, 1.6 + 0.48 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.0, 1.1]})
    for y, (_, row) in enumerate(means.iterrows()):
        style = styles[row["a"]]
        left.errorbar(
            row["est"],
            y,
            xerr=bounds(row["lo"], row["hi"], row["est"]),
            fmt=style.marker,
            color=style.colour,
            capsize=3,
            markersize=7,
        )
    grid = np.full((len(names), len(names)), np.nan)
    for _, row in chances.iterrows():
        y, x = names.index(row["a"]), names.index(row["b"])
        grid[y, x] = row["est"]
        ends = "" if pd.isna(row["lo"]) else f"\n{row['lo']:.2f} to {row['hi']:.2f}"
        right.text(
            x,
            y,
            f"{row['est']:.2f}{ends}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if abs(row["est"] - 0.5) > 0.3 else "black",
        )
    image = right.imshow(grid, cmap="PuOr", vmin=0, vmax=1, aspect="auto")
    for axes in (left, right):
        axes.set_yticks(range(len(names)), names if axes is left else [], parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)
    right.set_xticks(range(len(names)), names, parse_math=False, rotation=45, ha="right")
    right.grid(visible=False)
    left.grid(visible=False, axis="y")
    left.set_xlabel(f"interquartile mean: {metric_title(found.metric.split('/')[1])}")
    figure.colorbar(image, ax=right, label="P(line beats column)")
    settings = int(means["n_settings"].iloc[0])
    head(
        left,
        f"{found.suite}: {settings} settings together, {size_text(means['n_seeds'], means['n_prompts'])}",
    )
    return Plot(
        "aggregate",
        f"All {settings} settings together: how much, and how often",
        "Left, a dot per loss: the interquartile mean over seeds and settings, with a bootstrap interval "
        "where there are enough seeds. Right, a square table: how often a run of the line's loss "
        "beats one of the column's.",
        figure,
        found.table,
    )


def _profile_plot(found: Aggregate) -> Plot:
    """Share of runs above each threshold, as steps with bands."""
    table = found.profiles
    names = sorted(table["loss"].unique())
    styles = loss_styles(names)
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    for name in names:
        mine, style = table[table["loss"] == name], styles[name]
        axes.step(mine["threshold"], mine["est"], color=style.colour, linestyle=style.line, where="post")
        axes.plot(mine["threshold"], mine["est"], style.marker, color=style.colour, markevery=5, markersize=6)
        if mine["lo"].notna().all():
            ends = mine[["lo", "hi"]].astype(float)
            axes.fill_between(
                mine["threshold"], ends["lo"], ends["hi"], color=style.colour, alpha=0.12, step="post"
            )
    axes.set_xlabel(f"{metric_title(found.metric.split('/')[1])}, threshold")
    axes.set_ylabel("share of runs above it")
    axes.set_ylim(-0.03, 1.03)
    reasons = sorted({reason for reason in table["status"] if reason})
    bands = f"no bands: {reasons[0]}" if reasons else "bands: 95% at each threshold alone"
    sizes = size_text(found.table["n_seeds"], found.table["n_prompts"])
    settings = int(table["n_settings"].iloc[0])
    head(axes, f"{found.suite}: runs of {settings} settings, {sizes}; {bands}")
    legend_below(figure, [handle(styles[name], name) for name in names], min(6, len(names)))
    return Plot(
        "profile",
        "Performance profiles over all settings",
        "For every loss the share of its runs, over seeds and settings, that score above a threshold. A "
        "curve further right is better.",
        figure,
        table,
    )
