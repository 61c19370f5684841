"""What a loss gains for how far it moves: the primary metric against the KL from the reference."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import (
    WIDTH,
    Plot,
    draw_steps,
    handle,
    head,
    legend_below,
    loss_styles,
    metric_title,
    size_text,
)
from halobench.leaderboard.frontier import pareto
from halobench.leaderboard.tables import Tables, primary_column, primary_key


def frontier_plot(setting: Setting, tables: Tables) -> Plot | None:
    """A small dot per run, a large one per row; rows of one loss joined by rising KL; the Pareto steps."""
    table = _runs(setting, tables)
    if table.empty or table["row"].nunique() < 2:
        return None
    key = primary_key(setting)
    means = table.groupby(["loss", "row"], as_index=False)[["kl", key]].mean()
    means = means.sort_values(["loss", "kl"], ignore_index=True)
    styles = loss_styles(means["loss"])
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    axes = figure.subplots()
    handles = []
    for loss, mine in means.groupby("loss", sort=False):
        style = styles[str(loss)]
        runs = table[table["row"].isin(mine["row"])]
        axes.scatter(runs["kl"], runs[key], color=style.colour, marker=style.marker, s=14, alpha=0.6)
        axes.plot(
            mine["kl"],
            mine[key],
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            markersize=9,
            markeredgecolor="white",
            zorder=3,
        )
        joined = f" ({len(mine)} settings)" if len(mine) > 1 else ""
        handles.append(handle(style, f"{loss}{joined}", line=len(mine) > 1))
    reference = tables.rows[(tables.rows["row"] == "reference") & tables.rows[key].notna()]
    start = [(0.0, float(value)) for value in reference[key]]
    if start:
        axes.plot(*start[0], marker="o", color="black", markerfacecolor="white", markersize=8, zorder=3)
        axes.annotate("reference", start[0], xytext=(-4, -15), textcoords="offset points", fontsize=8)
    ranked = [(float(row["kl"]), float(row[key])) for _, row in means.iterrows()]
    right = float(table["kl"].max()) * 1.05
    draw_steps(axes, pareto([*start, *ranked]), right)
    axes.set_xlim(-0.02 * right, right)
    axes.set_xlabel("KL from the reference, nats per answer, T=1")
    axes.set_ylabel(metric_title(key))
    seeds = table.groupby("row").size()
    prompts = table["num_prompts"]
    head(
        axes,
        f"{setting.suite}: small dots runs, large ones means, {size_text(seeds, prompts)}; dotted: front",
    )
    legend_below(figure, handles, min(6, len(handles)))
    return Plot(
        "frontier",
        f"{metric_title(key).capitalize()}, by KL from the reference",
        "Each small dot is a run, each large one the mean of a row: how far from the reference it answers, "
        "and how well. Lines join rows of one loss; the dotted steps are the rows that no other beats at the "
        "same KL.",
        figure,
        table,
    )


def _runs(setting: Setting, tables: Tables) -> pd.DataFrame:
    """KL and primary metric of each run of the rows that are no controls."""
    column, key = primary_column(setting), primary_key(setting)
    shown = set(tables.rows["row"])
    found = []
    for row in setting.rows:
        if row.control or row.name not in shown:
            continue
        kls = setting.table(row, "oracle", "T=1", "kl")
        values = setting.table(row, column.scorer, column.decode, column.metric)
        if kls is None or values is None:
            continue
        for seed, kl, value in zip(row.completed, kls.mean(1), values.mean(1), strict=True):
            found.append(
                {
                    "loss": row.label,
                    "row": row.name,
                    "seed": seed,
                    "kl": float(kl),
                    key: float(value),
                    "num_prompts": values.shape[1],
                }
            )
    return pd.DataFrame(found)
