"""Figures by name: those of every board and those of others' numbers, of all their rows or of some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from halobench.errors import ResultsError, UnknownNameError
from halobench.leaderboard.aggregate import Aggregate
from halobench.leaderboard.build import board_stems, build_boards, build_studies, build_tunings
from halobench.leaderboard.cube import load_settings
from halobench.leaderboard.figures import make_plots
from halobench.leaderboard.figures.ablation import ablation_plots
from halobench.leaderboard.figures.aggregate import aggregate_plots
from halobench.leaderboard.figures.hyper import heatmap, heatmap_names, measure, searched, tried
from halobench.leaderboard.figures.search import search_plots
from halobench.leaderboard.figures.style import Plot, drawing
from halobench.leaderboard.published import published_tables
from halobench.leaderboard.published_figures import published_plots
from halobench.leaderboard.studies import Along, Study
from halobench.leaderboard.text import BuiltBoard
from halobench.leaderboard.tuning import Tuning
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
        plots = source.plots(source.rows) if name.startswith(source.prefix) else {}
        if name not in plots:
            continue
        chosen = source.plots(_choose(source.rows, where)) if where else plots
        if name not in chosen:
            raise ResultsError(f"{name}: nothing is left to draw of the chosen rows; choose more of them")
        return chosen[name]
    hint = did_you_mean(name, list(figure_titles(results)))
    raise UnknownNameError(f"{name!r}: no figure has that name{hint}; `halobench plot --list` names them")


def _sources(results: Path, figure: str = "") -> Iterator[_Source]:
    tables = published_tables(results)
    if tables is not None:
        yield _Source("published/", tables.counts, published_plots)
    store = Store(results)
    boards = build_boards(store, figure)
    for board in boards:
        yield _Source(f"{board.stem}-", board.tables.rows, _drawer(board))
    for stem, study in build_studies(boards).items():
        yield from _study_sources(f"{stem}-", study)
    for built in build_tunings(store):
        yield _Source(f"{built.stem}-", built.tuning.best, partial(_search_plots, built.tuning))
    for file in sorted(results.glob("tuning/*.csv")):
        name = f"tuning/{file.stem}"
        yield _heatmap_source(f"{name}-", searched(file), name, "mean of the measures")
    searches = load_settings(store, "tuning")
    for setting, stem in zip(searches, board_stems(searches), strict=True):
        yield _heatmap_source(f"tuning/{stem}-", tried(setting), setting.suite, measure(setting))


def _drawer(board: BuiltBoard) -> Callable[[pd.DataFrame], list[Plot]]:
    def draw_rows(rows: pd.DataFrame) -> list[Plot]:
        contrasts = board.tables.contrasts
        if not contrasts.empty:
            contrasts = contrasts[contrasts["a"].isin(rows["row"]) & contrasts["b"].isin(rows["row"])]
        return make_plots(board.setting, board.tables._replace(rows=rows, contrasts=contrasts))

    return draw_rows


def _study_sources(prefix: str, study: Study) -> Iterator[_Source]:
    """The figures of a suite as a whole."""
    for along in study.ablations:
        yield _Source(prefix, along.levels, partial(_along_plots, along))
    if study.aggregate is not None:
        yield _Source(prefix, study.aggregate.table, partial(_aggregate_plots, study.aggregate))
    for name, setting in heatmap_names(study.settings).items():
        yield _heatmap_source(prefix, tried(setting), setting.suite, measure(setting), name)


def _along_plots(along: Along, levels: pd.DataFrame) -> list[Plot]:
    if levels["is_line"].all():
        return []
    with drawing():
        return ablation_plots(along.ablation, levels, along.trends)


def _search_plots(tuning: Tuning, best: pd.DataFrame) -> list[Plot]:
    return search_plots(tuning._replace(best=best))


def _aggregate_plots(found: Aggregate, rows: pd.DataFrame) -> list[Plot]:
    profiles = found.profiles[found.profiles["loss"].isin(rows["a"])]
    with drawing():
        return aggregate_plots(found._replace(table=rows, profiles=profiles))


def _heatmap_source(prefix: str, rows: pd.DataFrame, suite: str, what: str, name: str = "hyper") -> _Source:
    def draw_rows(rows: pd.DataFrame) -> list[Plot]:
        with drawing():
            plot = heatmap(rows, name, suite, what)
        return [] if plot is None else [plot]

    return _Source(prefix, rows, draw_rows)


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
