"""What a search is worth: the expected best of so many settings, for every loss."""

from __future__ import annotations

from matplotlib.figure import Figure

from halobench.leaderboard.figures.style import (
    WIDTH,
    Plot,
    drawing,
    handle,
    head,
    legend_below,
    loss_styles,
)
from halobench.leaderboard.tuning import Tuning


def search_plots(tuning: Tuning) -> list[Plot]:
    """Draw every figure of a search that has something to show."""
    return [_best_plot(tuning)] if len(tuning.best) and tuning.best["settings"].max() > 1 else []


def _best_plot(tuning: Tuning) -> Plot:
    """Curves of the expected best score over the number of settings tried; the defaults at 0."""
    table = tuning.best
    styles = loss_styles(table["loss"])
    defaults = tuning.chosen.set_index("loss")["default"]
    with drawing():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots()
        handles = []
        for loss, curve in table.groupby("loss", sort=True):
            style = styles[str(loss)]
            axes.plot(
                curve["settings"],
                curve["best"],
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markersize=4,
                markevery=3,
            )
            axes.plot(0, defaults[loss], marker=style.marker, color=style.colour, markerfacecolor="white")
            handles.append(handle(style, str(loss)))
        axes.set_xlim(-0.6, float(table["settings"].max()) + 0.6)
        axes.set_xlabel("drawn settings that the best is chosen from; at 0 the default (open)")
        axes.set_ylabel(f"{tuning.metric} on dev prompts")
        seeds = tuning.chosen["seeds"].min()
        head(axes, f"{tuning.suite}: expected best of n settings, each the mean of {seeds} seeds")
        legend_below(figure, handles, 6)
    return Plot(
        "best",
        f"Search {tuning.suite}: expected best of so many settings",
        "One curve per loss: the expected score of the best setting, over the number of settings that it is "
        "chosen from; an open marker at 0 is the loss's default.",
        figure,
        table,
    )
