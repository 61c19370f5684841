"""The verb that draws one figure: plot."""

from __future__ import annotations

import argparse
from pathlib import Path

from halobench.errors import RecipeError, ResultsError
from halobench.storage import atomic_file

_SUFFIXES = (".svg", ".png", ".pdf")


def plot(arguments: argparse.Namespace) -> int:
    """Draw a figure and write its table beside it, or list the figures."""
    from halobench.leaderboard.build import write_csv
    from halobench.leaderboard.figures import save_figure
    from halobench.leaderboard.gallery import draw, figure_titles

    if not arguments.results.is_dir():
        raise ResultsError(
            f"{arguments.results}: no such results folder; run a suite, or name one with --results"
        )
    if arguments.list:
        titles = figure_titles(arguments.results)
        width = max(map(len, titles), default=0)
        for name, title in titles.items():
            print(f"{name:{width}}  {title}")
        return 0
    if arguments.name is None:
        raise RecipeError("plot: name a figure; `halobench plot --list` names them")
    out = arguments.out or Path(f"{arguments.name.replace('/', '-')}.svg")
    if out.suffix not in _SUFFIXES:
        raise RecipeError(f"--out {out}: ends in none of {', '.join(_SUFFIXES)}; give it one")
    found = draw(arguments.results, arguments.name, _where(arguments.where))
    for path in (out, out.with_suffix(".csv")):
        with atomic_file(path) as temporary:
            if path == out:
                save_figure(found.figure, temporary)
            else:
                write_csv(temporary, [found.table])
        print(f"wrote {path}")
    return 0


def _where(conditions: list[str]) -> dict[str, list[str]]:
    """Read `key=value,...` conditions; all of them have to hold."""
    where: dict[str, list[str]] = {}
    for condition in conditions:
        key, _, values = condition.partition("=")
        if not (key and values):
            raise RecipeError(f"--where {condition}: expected key=value or key=value,value")
        where.setdefault(key, []).extend(values.split(","))
    return where
