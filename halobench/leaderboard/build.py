"""`build`: from a results folder alone to the leaderboard's files, the same bytes every time."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from halobench.leaderboard.contrasts import compare
from halobench.leaderboard.cube import Setting, load_settings
from halobench.leaderboard.featured import featured
from halobench.leaderboard.figures import make_plots, save_figure
from halobench.leaderboard.page import render_pages
from halobench.leaderboard.page.render import slug
from halobench.leaderboard.published import published_tables
from halobench.leaderboard.published_figures import published_plots
from halobench.leaderboard.published_text import BuiltPublished
from halobench.leaderboard.tables import make_tables, rounded
from halobench.leaderboard.text import BuiltBoard, render_markdown
from halobench.results.store import Store
from halobench.results.tidy import harmless
from halobench.storage import atomic_folder


def build_boards(store: Store) -> list[BuiltBoard]:
    """Make every board of a results folder, without figures files."""
    boards = []
    for setting in load_settings(store):
        tables = make_tables(setting, compare(setting))
        boards.append(BuiltBoard(setting, tables, [], ""))
    suites = Counter(board.setting.suite for board in boards)
    return [board._replace(stem=_stem(board.setting, suites)) for board in boards]


def _stem(setting: Setting, suites: Counter[str]) -> str:
    """Beginning of a board's file names: its suite, with its setting where the suite has several."""
    name = setting.suite.replace("/", "-")
    return slug(name if suites[setting.suite] == 1 else f"{name}-{setting.setting_id[:6]}")


def build_published(results: Path) -> BuiltPublished | None:
    """Make what is shown of the published numbers of a results folder, if it has any."""
    tables = published_tables(results)
    return None if tables is None else BuiltPublished(tables, published_plots(tables.counts))


def build(results: Path, target: Path) -> list[BuiltBoard]:
    """Write the leaderboard of `results` into `target`, replacing what is there.

    The files depend on the results only: no clock, no network, no host, no locale, no order of folders.

    Returns:
        The boards.
    """
    store = Store(results)
    boards = build_boards(store)
    chosen = featured(boards)
    boards = [
        board._replace(plots=make_plots(board.setting, board.tables))
        if board.setting.setting_id in chosen
        else board
        for board in boards
    ]
    published = build_published(results)
    with atomic_folder(target) as folder:
        write_csv(folder / "leaderboard.csv", [board.tables.rows for board in boards])
        write_csv(folder / "contrasts.csv", [board.tables.contrasts for board in boards])
        write_csv(folder / "cost.csv", [board.tables.cost for board in boards])
        figures = folder / "figures"
        figures.mkdir()
        for board in boards:
            for plot in board.plots:
                stem = f"{board.stem}-{plot.name}"
                save_figure(plot.figure, figures / f"{stem}.svg")
                write_csv(figures / f"{stem}.csv", [plot.table])
        if published is not None:
            _write_published(folder / "published", published)
        version = store.data_version()
        _write_text(folder / "README.md", render_markdown(boards, version, published))
        for name, text in render_pages(boards, chosen, version, published):
            _write_text(folder / name, text)
    return boards


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_published(folder: Path, published: BuiltPublished) -> None:
    folder.mkdir()
    for name, table in published.tables._asdict().items():
        if table.empty:
            continue
        write_csv(folder / f"{name}.csv", [table])
    for plot in published.plots:
        save_figure(plot.figure, folder / f"{plot.name}.svg")
        write_csv(folder / f"{plot.name}.csv", [plot.table])


def stale_files(results: Path, target: Path) -> list[str]:
    """Names of the files in `target` that `results` does not give so, missing and superfluous ones too."""
    with TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "leaderboard"
        build(results, fresh)
        names = {str(p.relative_to(root)) for root in (fresh, target) for p in root.rglob("*") if p.is_file()}
        return sorted(
            name
            for name in names
            if not ((fresh / name).is_file() and (target / name).is_file())
            or not filecmp.cmp(fresh / name, target / name, shallow=False)
        )


def write_csv(path: Path, frames: Sequence[pd.DataFrame]) -> None:
    """Write tables below each other, floats with six significant digits, no text as a formula."""
    filled = [frame for frame in frames if not frame.empty] or list(frames[:1]) or [pd.DataFrame()]
    frame = pd.concat(filled, ignore_index=True)
    rounded(frame).map(harmless).to_csv(path, index=False, lineterminator="\n")
