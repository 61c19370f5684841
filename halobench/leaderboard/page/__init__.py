"""The site: static pages that read without JavaScript, work from a file, and let nothing in from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from halobench.leaderboard import imported
from halobench.leaderboard.beside import Beside
from halobench.leaderboard.page.board import board_context
from halobench.leaderboard.page.contrast import contrast_context
from halobench.leaderboard.page.facts import compared, run_path, setting_path, shown_run, view
from halobench.leaderboard.page.published import published_context
from halobench.leaderboard.page.render import render
from halobench.leaderboard.page.run import board_run_context, render_run
from halobench.leaderboard.page.samples import Showcase
from halobench.leaderboard.page.setting import setting_context
from halobench.leaderboard.page.tuning import tuning_context
from halobench.leaderboard.text import BuiltBoard

__all__ = ["render_pages", "render_run"]


def render_pages(
    boards: Sequence[BuiltBoard],
    chosen: frozenset[str],
    version: str,
    beside: Beside | None = None,
) -> Iterator[tuple[str, str]]:
    """Render the pages of the leaderboard: path and HTML of each.

    Args:
        boards: all of them.
        chosen: stems of the boards whose comparisons and runs get pages of their own.
        version: digest of the results.
        beside: what stands beside the boards.
    """
    beside = beside or Beside()
    others = [
        (f"{name}.html", title)
        for name, title, is_there in (
            ("tuning", "Tuning", beside.tunings),
            ("published", "Published", beside.published is not None),
            ("imported", "Imported", len(beside.imported)),
        )
        if is_there
    ]
    views = [view(board) for board in boards]

    def page(template: str, path: str, **context: Any) -> tuple[str, str]:
        return path, render(template, path, version, others=others, **context)

    yield page("index", "index.html", **board_context(views, chosen))
    yield page("methods", "methods.html")
    yield page("downloads", "downloads.html", **_downloads(boards, beside))
    if beside.tunings:
        yield page("tuning", "tuning.html", **tuning_context(beside.tunings))
    if beside.published is not None:
        yield page("published", "published.html", **published_context(beside.published))
    if len(beside.imported):
        yield page("imported", "imported.html", **_imported(beside.imported))
    runs: set[str] = set()
    for seen in views:
        board = seen.board
        is_chosen = board.stem in chosen
        yield page("setting", setting_path(board), **setting_context(seen, is_chosen))
        if not is_chosen:
            board.setting.release()  # the runs of so many settings would not fit the memory
            continue
        showcase = Showcase(board.setting.store)
        for pair in compared(board):
            yield page("contrast", pair.path, **contrast_context(board, pair, showcase))
        for row in board.setting.rows:
            record = shown_run(row)
            if record is None or record.run_id in runs:  # a run may stand for rows of two suites
                continue
            runs.add(record.run_id)
            yield page("run", run_path(record.run_id), **board_run_context(board, row.name, record, showcase))


def _imported(table: pd.DataFrame) -> dict[str, Any]:
    """What the template of other programs' numbers needs."""
    return {
        "title": imported.TITLE,
        "note": imported.NOTE,
        "mark": imported.MARK,
        "lines": imported.imported_lines(table),
    }


def _downloads(boards: Sequence[BuiltBoard], beside: Beside) -> dict[str, Any]:
    """Every file that is not a page."""
    published = beside.published
    tables = [] if published is None else [n for n, t in published.tables._asdict().items() if not t.empty]
    return {
        "further": beside.tables,
        "figures": [
            *(
                (f"figures/{board.stem}-{plot.name}", f"{board.setting.suite}: {plot.title}")
                for board in boards
                for plot in board.plots
            ),
            *((f"figures/{b.stem}-{plot.name}", plot.title) for b in beside.tunings for plot in b.plots),
        ],
        "published": [f"published/{name}.csv" for name in tables],
        "published_figures": []
        if published is None
        else [(f"published/{plot.name}", plot.title) for plot in published.plots],
    }
