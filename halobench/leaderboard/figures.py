"""The figures of a board, each drawn from a table that is saved beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.leaderboard.contrasts import decodes
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.tables import Tables, primary_column, primary_key

# Needed when a figure is drawn and when it is saved: without the salt every saved SVG is another.
STYLE = {"svg.hashsalt": "halobench", "svg.fonttype": "path", "font.family": "DejaVu Sans"}
GREY = "#767676"
_MARGIN = "#e8eef4"
# Fixed by name, so that a colour means the same on every board; the marker tells them apart without colour.
LOSS_STYLES = {
    "kto": ("#0173b2", "o"),
    "dpo": ("#d55e00", "s"),
    "csft": ("#00785a", "^"),
    "slic": ("#8a4fa3", "D"),
    "offline_ppo": ("#a36a00", "v"),
    "sft": ("#4d4d4d", "X"),
}
_FURTHER = (("#b3446c", "P"), ("#2b6777", "<"), ("#7a5c00", ">"), ("#5a5acd", "*"))
_TITLES = {
    "winrate": "win rate against the preferred answers",
    "accuracy": "implied-reward accuracy",
    "auc": "AUC of the implied reward",
}


class Plot(NamedTuple):
    """A figure with the table it shows.

    Attributes:
        name: of its files.
        title: in words, for the page.
        description: what can be seen, for those who cannot.
        figure: to be saved.
        table: what was drawn.
    """

    name: str
    title: str
    description: str
    figure: Figure
    table: pd.DataFrame


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its suffix says, svg, png or pdf; the same bytes every time."""
    undated = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}
    figure.set_dpi(200 if path.suffix == ".png" else 100)
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, metadata=undated[path.suffix], bbox_inches="tight")


def make_plots(setting: Setting, tables: Tables) -> list[Plot]:
    """Draw every figure of a board."""
    makers: list[Callable[[Setting, Tables], Plot | None]] = [score_plot, difference_plot, component_plot]
    with matplotlib.rc_context(STYLE), sns.axes_style("whitegrid", {"axes.edgecolor": "#888888"}):
        plots = [make(setting, tables) for make in makers]
    return [plot for plot in plots if plot is not None]


def _style(setting: Setting, name: str) -> tuple[str, str]:
    row = setting.row(name)
    if row is None or row.control:
        return GREY, "o"
    if row.label in LOSS_STYLES:
        return LOSS_STYLES[row.label]
    others = sorted({r.label for r in setting.rows if not r.control and r.label not in LOSS_STYLES})
    return _FURTHER[others.index(row.label) % len(_FURTHER)]


def score_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Dots with 95% intervals: the primary metric of every row at both decodes, seeds as small dots."""
    key = primary_key(setting)
    rows = tables.rows
    if key not in rows:
        return None
    keys = [key, *([f"{key}_star"] if f"{key}_star" in rows else [])]
    bounds = [name for k in keys for name in (k, f"{k}_low", f"{k}_high") if name in rows]
    table = rows[["row", "control", "note", "seeds", *bounds]]
    names = list(table["row"])
    figure, axes = _canvas(len(names))
    _draw_seeds(axes, setting, key, names)
    for y, (_, row) in enumerate(table.iterrows()):
        colour, marker = _style(setting, row["row"])
        hollow = row["note"] not in ("", "control")
        for k in keys:
            is_primary = k == key
            low, high = row.get(f"{k}_low", np.nan), row.get(f"{k}_high", np.nan)
            if pd.isna(row[k]):
                continue
            errors = [[row[k] - low], [high - row[k]]] if pd.notna(low) else None
            axes.errorbar(
                row[k],
                y + (0.0 if is_primary else 0.25),
                xerr=errors,
                fmt=marker,
                color=colour,
                markersize=7 if is_primary else 5,
                markerfacecolor=colour if is_primary and not hollow else "white",
                capsize=3 if is_primary else 0,
                linewidth=1.6 if is_primary else 0.9,
                zorder=3,
            )
    reference = next((float(v) for n, v in zip(names, table[key], strict=True) if n == "reference"), None)
    if reference is not None:
        axes.axvline(reference, color=GREY, linestyle="--", linewidth=1, zorder=1)
    axes.set_xlabel(_TITLES.get(key, key))
    decode = "filled: T=1, open: T*; " if len(keys) > 1 else ""
    axes.set_title(f"{setting.suite}: {decode}95% intervals over seeds and prompts", fontsize=10, loc="left")
    _label_rows(axes, names)
    return Plot(
        "scores",
        f"By row: {_TITLES.get(key, key)}",
        "One line per row of the board: a dot for the estimate with its 95% interval, small dots for seeds"
        + ("; a dashed line marks the reference" if reference is not None else "")
        + ". The numbers are in the table below it.",
        figure,
        table,
    )


def _draw_seeds(axes: Axes, setting: Setting, key: str, names: list[str]) -> None:
    column = primary_column(setting)
    points = []
    for name in names:
        row = setting.row(name)
        values = None if row is None else setting.table(row, column.scorer, column.decode, column.metric)
        for value in [] if values is None else values.mean(1):
            points.append({"row": name, "value": float(value), "colour": _style(setting, name)[0]})
    seeds = pd.DataFrame(points, columns=["row", "value", "colour"])
    for y, name in enumerate(names):
        mine = seeds[seeds["row"] == name]
        sns.scatterplot(
            x=mine["value"],
            y=np.full(len(mine), y - 0.22),
            color=mine["colour"].iloc[0] if len(mine) else GREY,
            s=14,
            alpha=0.7,
            linewidth=0,
            ax=axes,
            zorder=2,
        )


def difference_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Forest of paired differences between ranked losses: Holm-adjusted intervals, the margin shaded."""
    contrasts = tables.contrasts
    primary = decodes(setting)[0]
    table = contrasts[(contrasts["family"] == "losses") & (contrasts["decode"] == primary)]
    if table.empty:
        return None
    table = table.assign(size=table["difference"].abs()).sort_values(
        ["difference", "a", "b"], ascending=[False, True, True], ignore_index=True
    )
    columns = ["a", "b", "difference", "adjusted_low", "adjusted_high", "p_holm", "verdict", "robust"]
    table = table[columns]
    names = [f"{row['a']} - {row['b']}" for _, row in table.iterrows()]
    figure, axes = _canvas(len(names))
    margin = setting.board.margin
    axes.axvspan(-margin, margin, color=_MARGIN, zorder=0)
    axes.axvline(0, color="black", linewidth=1, zorder=1)
    for y, (_, row) in enumerate(table.iterrows()):
        decided = row["adjusted_low"] > 0 or row["adjusted_high"] < 0
        colour = "#0173b2" if decided else GREY
        errors = [[row["difference"] - row["adjusted_low"]], [row["adjusted_high"] - row["difference"]]]
        axes.errorbar(
            row["difference"],
            y,
            xerr=errors,
            fmt="o",
            color=colour,
            markerfacecolor=colour if decided else "white",
            capsize=3,
            zorder=3,
        )
        robust = {"True": ", robust", "False": ", not robust"}.get(str(row["robust"]), "")
        axes.annotate(
            f"{row['verdict']}{robust if decided else ''}",
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour if decided else "#4d4d4d",
        )
    axes.set_xlabel(f"difference in {_TITLES.get(primary_key(setting), primary_key(setting))}")
    axes.set_title(
        f"{setting.suite}, {primary}: paired differences, Holm-adjusted; shaded: margin +-{margin:g}"
        if primary != "-"
        else f"{setting.suite}: paired differences, Holm-adjusted; shaded: margin +-{margin:g}",
        fontsize=10,
        loc="left",
    )
    _label_rows(axes, names)
    return Plot(
        "differences",
        "Paired differences between the ranked losses",
        "One line per pair of losses: the difference of the primary metric, its Holm-adjusted interval, and "
        "what it means for the first. Intervals that exclude zero are filled.",
        figure,
        table,
    )


def component_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Which part of the utility moved: the components of every row, as differences from the reference."""
    world = ("task", "truth", "manners", "brevity", "form")
    present = [name for name in world if name in tables.rows]
    if not present or "reference" not in set(tables.rows["row"]):
        return None
    table = tables.rows[["row", *present]].dropna().set_index("row")
    change = (table - table.loc["reference"]).drop(index=["reference"])
    if change.empty:
        return None
    figure = Figure(figsize=(7.5, 1.2 + 0.36 * len(change)), layout="constrained")
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
        cbar_kws={"label": "utility, difference from the reference"},
        linewidths=0.5,
        ax=axes,
    )
    axes.set_ylabel("")
    axes.set_title(f"{setting.suite}: which part of the utility moved, T=1", fontsize=10, loc="left")
    return Plot(
        "components",
        "Components of the utility, as differences from the reference",
        "A table in colours: one line per row, one column per component of the utility; number and shade are "
        "the difference from the reference.",
        figure,
        change.reset_index(),
    )


def _canvas(num_rows: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, 1.3 + 0.42 * num_rows), layout="constrained")
    return figure, figure.subplots()


def _label_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_ylabel("")
    axes.grid(visible=False, axis="y")
