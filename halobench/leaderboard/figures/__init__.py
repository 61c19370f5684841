"""The figures of a board, each drawn from a table that is saved beside it."""

from __future__ import annotations

from collections.abc import Callable

from halobench.leaderboard.cube import Setting
from halobench.leaderboard.figures.components import component_plot
from halobench.leaderboard.figures.cost import cost_plot
from halobench.leaderboard.figures.curves import curve_plot
from halobench.leaderboard.figures.differences import difference_plot, matrix_plot
from halobench.leaderboard.figures.frontier import frontier_plot
from halobench.leaderboard.figures.noise import noise_plot
from halobench.leaderboard.figures.ranks import rank_plot
from halobench.leaderboard.figures.scores import score_plot
from halobench.leaderboard.figures.style import GREY, LOSS_STYLES, STYLE, Plot, drawing, save_figure
from halobench.leaderboard.tables import Tables

__all__ = ["GREY", "LOSS_STYLES", "STYLE", "Plot", "make_plots", "save_figure"]

_BOARD: tuple[Callable[[Setting, Tables], Plot | None], ...] = (
    score_plot,
    difference_plot,
    rank_plot,
    matrix_plot,
    component_plot,
    frontier_plot,
    curve_plot,
    noise_plot,
    cost_plot,
)


def make_plots(setting: Setting, tables: Tables) -> list[Plot]:
    """Draw every figure of a board that has something to show."""
    with drawing():
        plots = [make(setting, tables) for make in _BOARD]
    return [plot for plot in plots if plot is not None]
