"""What a gain costs: the primary metric against measured seconds, memory, and counted tokens."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import (
    WIDTH,
    Plot,
    bounds,
    draw_steps,
    handle,
    legend_below,
    metric_title,
    plain,
    round_ticks,
    row_styles,
    shortened,
    size_text,
)
from halobench.leaderboard.frontier import pareto
from halobench.leaderboard.tables import Tables, primary_column, primary_key

_MEASURES = (("train_seconds", "training, seconds"), ("peak_memory_gib", "peak memory, GiB"))


def cost_plot(setting: Setting, tables: Tables) -> Plot | None:
    """The primary metric against what the alignment took, on one kind of hardware, with the Pareto steps."""
    key = primary_key(setting)
    rows = tables.rows
    if key not in rows or tables.cost.empty:
        return None
    cost = tables.cost.assign(peak_memory_gib=tables.cost["peak_memory_bytes"].astype(float) / 2**30)
    named = [name for name, _ in _MEASURES]
    means = cost.groupby("row")[named].mean()
    spent = rows[~rows["control"]].join(means, on="row")
    ends = [name for name in (f"{key}_low", f"{key}_high") if name in rows]
    table = spent[["row", key, *ends, *named, "seeds"]].dropna(subset=["train_seconds", key])
    if len(table) < 2:
        return None
    table = table.reset_index(drop=True).assign(hardware=_hardware(setting))
    measures = [(name, title) for name, title in _MEASURES if table[name].notna().all()]
    styles = row_styles(setting.rows)
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, (name, title) in zip(panels, measures, strict=True):
        for _, row in table.iterrows():
            style = styles[row["row"]]
            axes.errorbar(
                row[name],
                row[key],
                yerr=bounds(row.get(f"{key}_low", np.nan), row.get(f"{key}_high", np.nan), row[key]),
                fmt=style.marker,
                color=style.colour,
                capsize=3,
                markersize=7,
            )
        steps = pareto((float(row[name]), float(row[key])) for _, row in table.iterrows())
        right = float(table[name].max()) * 1.15
        draw_steps(axes, steps, right)
        axes.set_xscale("log")
        axes.set_xlim(float(table[name].min()) / 1.15, right)
        round_ticks(axes, float(table[name].min()), float(table[name].max()))
        axes.set_xlabel(f"{title}, mean over seeds (log)")
    panels[0].set_ylabel(metric_title(key))
    column = primary_column(setting)
    prompts = [
        len(setting.prompt_ids(row, column.scorer, column.decode, column.metric))
        for row in setting.rows
        if row.name in set(table["row"])
    ]
    figure.suptitle(
        plain(
            f"{setting.suite}: what it costs on {_hardware(setting)}; 95% intervals, "
            f"{size_text(table['seeds'], prompts)}; dotted: best for the cost"
        ),
        fontsize=10,
    )
    handles = [handle(styles[name], shortened(name), line=False) for name in table["row"]]
    legend_below(figure, handles, min(6, len(handles)))
    return Plot(
        "cost",
        "What a gain costs",
        "A dot per row: the primary metric with its interval, against the seconds of training and the peak "
        "memory, as measured. The dotted steps join the rows that no other beats at the same cost.",
        figure,
        table,
    )


def _hardware(setting: Setting) -> str:
    """The devices that trained the board's runs, counted where there is not just one kind."""
    devices: pd.Series = pd.Series(
        [
            f"{record.recipe['execution']['devices']} x {record.provenance.accelerator}"
            for row in setting.rows
            for record in row.records.values()
            if record.budget is not None
        ]
    ).value_counts(sort=False)
    names = sorted(devices.index)
    return " and ".join(names) if len(names) < 3 else f"{len(names)} kinds of hardware"
