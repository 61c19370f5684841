"""Which part of the utility moved."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import WIDTH, Plot, head, size_text
from halobench.leaderboard.tables import Tables

_WORLD = ("task", "truth", "manners", "brevity", "form")


def component_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Which part of the utility moved: the components of every row, as differences from the reference."""
    present = [name for name in _WORLD if name in tables.rows]
    if not present or "reference" not in set(tables.rows["row"]):
        return None
    rows = tables.rows.set_index("row")
    table = rows[present].dropna()
    change = (table - table.loc["reference"]).drop(index=["reference"])
    if change.empty:
        return None
    figure = Figure(figsize=(WIDTH - 1, 1.3 + 0.36 * len(change)), layout="constrained")
    axes = figure.subplots()
    limit = float(np.abs(change.to_numpy()).max()) or 1.0
    sns.heatmap(
        change,
        annot=True,
        fmt="+.2f",
        cmap="PuOr",
        center=0,
        vmin=-limit,
        vmax=limit,
        cbar_kws={"label": "utility, difference\nfrom the reference"},
        linewidths=0.5,
        ax=axes,
    )
    axes.set_yticks(np.arange(len(change)) + 0.5, change.index, parse_math=False, rotation=0)
    axes.set_ylabel("")
    row = setting.row("reference")
    values = None if row is None else setting.table(row, "oracle", "T=1", present[0])
    sizes = "" if values is None else f", {size_text(rows.loc[change.index, 'seeds'], [values.shape[1]])}"
    head(axes, f"{setting.suite}: which part of the utility moved, T=1{sizes}")
    return Plot(
        "components",
        "Components of the utility, as differences from the reference",
        "A table in colours: one line per row, one column per component of the utility; number and shade are "
        "the difference from the reference.",
        figure,
        change.reset_index(),
    )
