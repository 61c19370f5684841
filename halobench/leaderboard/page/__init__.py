"""The site: static pages that read without JavaScript, work from a file, and let nothing in from outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from halobench.leaderboard.page.board import board_context
from halobench.leaderboard.page.contrast import contrast_context
from halobench.leaderboard.page.facts import compared, run_path, setting_path, shown_run, view
from halobench.leaderboard.page.published import published_context
from halobench.leaderboard.page.render import render
from halobench.leaderboard.page.run import board_run_context, render_run
from halobench.leaderboard.page.samples import Showcase
from halobench.leaderboard.page.setting import setting_context
from halobench.leaderboard.published_text import BuiltPublished
from halobench.leaderboard.text import BuiltBoard

__all__ = ["render_pages", "render_run"]


def render_pages(
    boards: Sequence[BuiltBoard], chosen: set[str], version: str, published: BuiltPublished | None = None
) -> Iterator[tuple[str, str]]:
    """Render the pages of the leaderboard: path and HTML of each.

    Args:
        boards: all of them.
        chosen: settings whose comparisons and runs get pages of their own.
        version: digest of the results.
        published: what others published, if it is shown.
    """
    has_published = published is not None
    views = [view(board) for board in boards]

    def page(template: str, path: str, **context: Any) -> tuple[str, str]:
        return path, render(template, path, version, has_published=has_published, **context)

    yield page("index", "index.html", **board_context(views, chosen))
    yield page("methods", "methods.html")
    yield page("downloads", "downloads.html", **_downloads(boards, published))
    if published is not None:
        yield page("published", "published.html", **published_context(published))
    runs: set[str] = set()
    for seen in views:
        board = seen.board
        is_chosen = board.setting.setting_id in chosen
        yield page("setting", setting_path(board), **setting_context(seen, is_chosen))
        if not is_chosen:
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


def _downloads(boards: Sequence[BuiltBoard], published: BuiltPublished | None) -> dict[str, Any]:
    """Every file that is not a page."""
    tables = [] if published is None else [n for n, t in published.tables._asdict().items() if not t.empty]
    return {
        "figures": [
            (f"figures/{board.stem}-{plot.name}", f"{board.setting.suite}: {plot.title}")
            for board in boards
            for plot in board.plots
        ],
        "published": [f"published/{name}.csv" for name in tables],
        "published_figures": []
        if published is None
        else [(f"published/{plot.name}", plot.title) for plot in published.plots],
    }
