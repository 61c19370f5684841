"""Figures by name: those of every board and those of others' numbers, of all their rows or of some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from halobench.errors import ResultsError, UnknownNameError
from halobench.leaderboard.build import build_boards
from halobench.leaderboard.figures import Plot, make_plots
from halobench.leaderboard.published import published_tables
from halobench.leaderboard.published_figures import published_plots
from halobench.leaderboard.text import BuiltBoard
from halobench.registry import did_you_mean
from halobench.results.store import Store

Where = Mapping[str, Sequence[str]]


class _Source(NamedTuple):
    """Rows and the figures that are drawn of them.

    Attributes:
        prefix: of the figures' names.
        rows: what can be chosen from.
        draw: rows to figures.
    """

    prefix: str
    rows: pd.DataFrame
    draw: Callable[[pd.DataFrame], list[Plot]]

    def plots(self, rows: pd.DataFrame) -> dict[str, Plot]:
        return {f"{self.prefix}{plot.name}": plot for plot in self.draw(rows)}


def figure_titles(results: Path) -> dict[str, str]:
    """Every figure of a results folder, with what it shows."""
    return {
        name: plot.title for source in _sources(results) for name, plot in source.plots(source.rows).items()
    }


def draw(results: Path, name: str, where: Where) -> Plot:
    """Draw one figure.

    Args:
        results: the results folder.
        name: of the figure, as `figure_titles` has it.
        where: column to the values of the rows that are to be drawn.

    Raises:
        UnknownNameError: no figure, column or value has that name.
        ResultsError: the rows that are left give no such figure.
    """
    for source in _sources(results, name):
        plots = source.plots(source.rows)
        if name not in plots:
            continue
        chosen = source.plots(_choose(source.rows, where)) if where else plots
        if name not in chosen:
            raise ResultsError(f"{name}: nothing is left to draw of the chosen rows; choose more of them")
        return chosen[name]
    known = list(figure_titles(results))
    raise UnknownNameError(
        f"{name!r}: no figure has that name{did_you_mean(name, known)}; `halobench plot --list` names them"
    )


def _sources(results: Path, figure: str = "") -> Iterator[_Source]:
    tables = published_tables(results)
    if tables is not None:
        yield _Source("published/", tables.counts, published_plots)
    for board in build_boards(Store(results), figure):
        yield _Source(f"{board.stem}-", board.tables.rows, _drawer(board))


def _drawer(board: BuiltBoard) -> Callable[[pd.DataFrame], list[Plot]]:
    def draw_rows(rows: pd.DataFrame) -> list[Plot]:
        contrasts = board.tables.contrasts
        if not contrasts.empty:
            contrasts = contrasts[contrasts["a"].isin(rows["row"]) & contrasts["b"].isin(rows["row"])]
        return make_plots(board.setting, board.tables._replace(rows=rows, contrasts=contrasts))

    return draw_rows


def _choose(rows: pd.DataFrame, where: Where) -> pd.DataFrame:
    for key, values in where.items():
        if key not in rows:
            known = sorted(map(str, rows.columns))
            raise UnknownNameError(
                f"--where {key}: no such column{did_you_mean(key, known) or f'; known here: {known}'}"
            )
        texts = rows[key].map(_text)
        present = sorted(set(texts))
        for value in values:
            if value.lower() not in present:
                raise UnknownNameError(
                    f"--where {key}={value}: no row has that value; there are {', '.join(present)}"
                )
        rows = rows[texts.isin([value.lower() for value in values])].reset_index(drop=True)
    return rows


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
