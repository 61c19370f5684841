"""Hyper-parameters that were searched together: a heat map per loss, the best cell boxed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from halobench.leaderboard.contrasts import decodes
from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.style import Plot, metric_title, plain

_NO_PARAMETERS = ("loss", "seed", "value")
_COLUMNS = 3


def heatmap_names(settings: Sequence[Setting]) -> dict[str, Setting]:
    """Name the heat map of each board of a suite."""
    if len(settings) == 1:
        return {"hyper": settings[0]}
    return {f"hyper-{setting.setting_id[:6]}": setting for setting in settings}


def heatmap_plots(settings: Sequence[Setting]) -> list[Plot]:
    """Draw each board whose losses vary in two hyper-parameters or more."""
    plots = [
        heatmap(tried(setting), name, setting.suite, measure(setting))
        for name, setting in heatmap_names(settings).items()
    ]
    return [plot for plot in plots if plot is not None]


def measure(setting: Setting) -> str:
    """What the cells of a board's heat map are: its primary metric, mean of the co-primary decodes."""
    means = f", mean of {' and '.join(decodes(setting))}" if len(decodes(setting)) > 1 else ""
    return f"{metric_title(setting.board.metric.split('/')[1])}{means}"


def searched(file: Path) -> pd.DataFrame:
    """Read a table of a search: loss, parameters, seed, and measures, of which the mean was to be high."""
    frame = pd.read_csv(file)
    measures = [column for column in frame.columns if "," in str(column)]
    return frame.drop(columns=measures).assign(value=frame[measures].mean(axis=1))


def tried(setting: Setting) -> pd.DataFrame:
    """One row per run: loss, numeric parameters, seed, and the primary metric, mean of its decodes."""
    scorer, metric = setting.board.metric.split("/")
    rows = []
    for row in setting.rows:
        if row.control or row.any_record.evaluate != "aligned":
            continue
        recipe = row.any_record.recipe
        parameters = {key: value for key, value in recipe["loss"].items() if isinstance(value, int | float)}
        tables = [setting.table(row, scorer, decode, metric) for decode in decodes(setting)]
        known = [table.mean(1) for table in tables if table is not None]
        for seed, value in zip(row.completed, np.mean(known, axis=0) if known else (), strict=False):
            rows.append(
                {
                    "loss": row.loss,
                    **parameters,
                    "lr": recipe["optim"]["lr"],
                    "seed": seed,
                    "value": float(value),
                }
            )
    return pd.DataFrame(rows, columns=None if rows else [*_NO_PARAMETERS])


def heatmap(tried: pd.DataFrame, name: str, suite: str, measure: str) -> Plot | None:
    """One panel per loss, and per value of a third parameter; one norm for all; None without two that vary.

    Args:
        tried: one row per run: loss, parameters (nan where a loss has none of that name), seed, value.
        name: of the figure.
        suite: it is of.
        measure: what the values are.
    """
    panels = [panel for loss, mine in tried.groupby("loss", sort=True) for panel in _panels(str(loss), mine)]
    if not panels:
        return None
    table = pd.concat([cells.assign(panel=title) for title, _, _, cells in panels], ignore_index=True)
    best = table.groupby("loss")["est"].transform("max")
    table["chosen"] = table["est"] == best
    low, high = float(table["est"].min()), float(table["est"].max())
    lines = -(-len(panels) // _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    figure = Figure(figsize=(1.6 + 3.1 * columns, 0.8 + 2.7 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, x, y, _) in zip(grid, panels, strict=False):
        image = _draw(axes, table[table["panel"] == title], x, y, (low, high))
        axes.set_title(plain(title), fontsize=9, loc="left")
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.colorbar(image, ax=list(grid), label=plain(measure), shrink=0.9)
    figure.suptitle(
        plain(
            f"{suite}: what was tried; n = seeds of a cell, hatched: not tried, boxed: best mean of a loss"
        ),
        fontsize=10,
    )
    return Plot(
        name,
        f"Hyper-parameters that were tried: {measure}",
        "One square table per loss: shade and number are the mean over seeds for two hyper-parameters, with "
        "the number of seeds. The best cell of each loss is boxed; hatched cells were not tried.",
        figure,
        table.drop(columns="panel"),
    )


def _panels(loss: str, mine: pd.DataFrame) -> list[tuple[str, str, str, pd.DataFrame]]:
    """Title, the parameters of its sides, and cells, of each panel of a loss."""
    keys = [str(key) for key in mine.columns if key not in _NO_PARAMETERS]
    counts = {key: mine[key].nunique() for key in keys if mine[key].nunique() > 1}
    if len(counts) < 2:
        return []
    x, y, *others = sorted(counts, key=lambda key: (-counts[key], key))
    grouped = mine.groupby(others, sort=True) if others else [((), mine)]
    panels = []
    for values, part in grouped:
        said = ", ".join(f"{key}={value:g}" for key, value in zip(others, values, strict=True))
        cells = part.groupby([x, y], as_index=False).agg(est=("value", "mean"), n_seeds=("seed", "nunique"))
        cells.insert(0, "loss", loss)
        for key, value in zip(others, values, strict=True):
            cells[key] = pd.Series([value] * len(cells), dtype=object)
        panels.append((f"{loss}{f' ({said})' if said else ''}", x, y, cells))
    return panels


def _draw(axes: Axes, cells: pd.DataFrame, x: str, y: str, norm: tuple[float, float]) -> AxesImage:
    across, down = sorted(cells[x].unique()), sorted(cells[y].unique(), reverse=True)
    grid = np.full((len(down), len(across)), np.nan)
    for _, cell in cells.iterrows():
        line, column = down.index(cell[y]), across.index(cell[x])
        grid[line, column] = cell["est"]
        dark = cell["est"] < (norm[0] + norm[1]) / 2
        axes.text(
            column,
            line,
            f"{cell['est']:.3f}\nn = {cell['n_seeds']}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )
        if cell["chosen"]:
            box = Rectangle(
                (column - 0.47, line - 0.47), 0.94, 0.94, fill=False, edgecolor="red", linewidth=2.2
            )
            axes.add_patch(box)
    for line, column in np.argwhere(np.isnan(grid)):
        axes.add_patch(
            Rectangle(
                (column - 0.5, line - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#9a9a9a", linewidth=0
            )
        )
    image = axes.imshow(grid, cmap="cividis", vmin=norm[0], vmax=norm[1], aspect="auto")
    axes.set_xticks(range(len(across)), [f"{value:g}" for value in across], fontsize=8)
    axes.set_yticks(range(len(down)), [f"{value:g}" for value in down], fontsize=8)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(visible=False)
    return image
