"""How the losses trained: loss, rewards, reference point and gradient by optimizer step."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.leaderboard.cube import BoardRow, Setting
from halobench.leaderboard.figures.style import (
    WIDTH,
    LossStyle,
    Plot,
    handle,
    legend_below,
    plain,
    row_styles,
    shortened,
)
from halobench.leaderboard.tables import Tables
from halobench.results.store import Store

MOST_ROWS = 12  # more lines than that nobody tells apart
_BINS = 30
_SEED_LINES = 48
_LINEAR, _NOTHING = 0.3, 0.01
# what each loss calls the reward of the better and of the worse answer
_REWARDS = {
    "better": ("reward_desirable", "reward_chosen"),
    "worse": ("reward_undesirable", "reward_rejected"),
}
_PANELS = (
    ("loss", "loss, change since the first step"),
    ("margin", "reward margin, better - worse"),
    ("better", "reward of the better answers"),
    ("worse", "reward of the worse answers"),
    ("z0", "reference point z0, nats"),
    ("grad_norm", "norm of the gradient"),
)


def curve_plot(setting: Setting, tables: Tables) -> Plot | None:
    """Small multiples over steps: the mean over seeds, thin lines for seeds, crosses where a run diverged."""
    shown = set(tables.rows["row"])
    rows = [row for row in setting.rows if row.name in shown and not row.control]
    if len(rows) > MOST_ROWS:
        return None
    curves = pd.concat([_row_curves(setting.store, row) for row in rows] or [pd.DataFrame()])
    if curves.empty:
        return None
    table = (
        curves.groupby(["row", "panel", "bin"], sort=False)
        .agg(step=("step", "mean"), est=("value", "mean"), lo=("value", "min"), hi=("value", "max"),
             n_seeds=("seed", "nunique"))
        .reset_index()
    )  # fmt: skip
    panels = [(name, title) for name, title in _PANELS if (table["panel"] == name).any()]
    styles = row_styles(setting.rows)
    lines = -(-len(panels) // 3)
    figure = Figure(figsize=(WIDTH + 1.5, 1.0 + 2.4 * lines), layout="constrained")
    grid = figure.subplots(lines, min(3, len(panels)), sharex=True, squeeze=False).ravel()
    with_seeds = len(curves[["row", "seed"]].drop_duplicates()) <= _SEED_LINES
    diverged = [(row, seed) for row in rows for seed in row.records if seed not in row.completed]
    for axes, (name, title) in zip(grid, panels, strict=False):
        part = table[table["panel"] == name]
        for row in rows:
            mean = part[part["row"] == row.name]
            seeds = curves[(curves["panel"] == name) & (curves["row"] == row.name)]
            if len(mean):
                _draw(axes, mean, seeds if with_seeds else seeds.iloc[:0], styles[row.name])
            for _, seed in (pair for pair in diverged if pair[0] is row):
                last = seeds[seeds["seed"] == seed].tail(1)
                axes.plot(last["step"], last["value"], "x", color="black", markersize=8, zorder=4)
        _scale(axes, name, part)
        axes.set_title(title, fontsize=9, loc="left")
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(panels) - 3) : len(panels)]:
        axes.set_xlabel("optimizer step", fontsize=9)
        axes.tick_params(labelbottom=True)
    crosses = f"; crosses: {len(diverged)} diverged" if diverged else ""
    seeds_text = "mean over seeds, thin lines: seeds" if with_seeds else "mean over seeds"
    counts = sorted(set(table["n_seeds"]))
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    figure.suptitle(
        plain(f"{setting.suite}: {seeds_text}, n = {span} seeds; rewards in each loss's own units{crosses}"),
        fontsize=10,
    )
    present = [row.name for row in rows if row.name in set(table["row"])]
    legend_below(figure, [handle(styles[name], shortened(name)) for name in present], min(6, len(present)))
    return Plot(
        "curves",
        "How the losses trained",
        "Small panels over the optimizer steps: the change of the loss, the rewards of the better and the "
        "worse answers and their margin, the reference point, the norm of the gradient. A thick line per row "
        "for the mean over seeds" + (", thin ones for seeds" if with_seeds else "") + ".",
        figure,
        table.drop(columns="bin"),
    )


def _scale(axes: Axes, name: str, part: pd.DataFrame) -> None:
    """Losses have units of their own: the scale of large ones is logarithmic, so that small ones show."""
    largest = float(part[["lo", "hi"]].abs().max().max())
    if name != "z0" and largest > _LINEAR:
        axes.set_yscale("symlog", linthresh=_LINEAR)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if largest < _NOTHING:
        axes.set_ylim(-_NOTHING, _NOTHING)


def _draw(axes: Axes, mean: pd.DataFrame, seeds: pd.DataFrame, style: LossStyle) -> None:
    for _, one in seeds.groupby("seed"):
        axes.plot(one["step"], one["value"], color=style.colour, linewidth=0.5, alpha=0.35)
    axes.plot(
        mean["step"],
        mean["est"],
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markevery=max(1, len(mean) // 5),
        markersize=5,
        linewidth=1.6,
        zorder=3,
    )


def _row_curves(store: Store, row: BoardRow) -> pd.DataFrame:
    """A row's curves in the figure's terms, each run thinned to its bins: seed, panel, step, value."""
    parts = []
    for seed, record in row.records.items():
        file = store.run_path(record.run_id) / "curves.parquet"
        if not file.is_file():
            continue
        wide = pd.read_parquet(file).pivot_table(index="step", columns="metric", values="value")
        panels = {"loss": _since_start(wide)}
        panels |= {name: _first_of(wide, names) for name, names in _REWARDS.items()}
        if panels["better"] is not None and panels["worse"] is not None:
            panels["margin"] = panels["better"] - panels["worse"]
        panels |= {name: _first_of(wide, (name,)) for name in ("z0", "grad_norm")}
        for name, values in panels.items():
            if values is not None:
                parts.append(_binned(values).assign(seed=seed, panel=name))
    return pd.concat(parts).assign(row=row.name) if parts else pd.DataFrame()


def _since_start(wide: pd.DataFrame) -> pd.Series | None:
    return wide["loss"] - wide["loss"].dropna().iloc[0] if "loss" in wide else None


def _first_of(wide: pd.DataFrame, names: Sequence[str]) -> pd.Series | None:
    return next((wide[name] for name in names if name in wide), None)


def _binned(values: pd.Series) -> pd.DataFrame:
    """Mean step and value of each of at most 30 equal parts of the steps."""
    values = values.dropna()
    frame = pd.DataFrame({"step": values.index.astype(float), "value": values.to_numpy(float)})
    last = frame["step"].max()
    frame["bin"] = ((frame["step"] - 1) * _BINS / max(last, _BINS)).astype(int)
    return frame.groupby("bin", as_index=False).mean()
