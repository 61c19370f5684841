"""`build`: from a results folder alone to the leaderboard's files, the same bytes every time."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from halobench.leaderboard.contrasts import compare
from halobench.leaderboard.cube import Setting, load_settings
from halobench.leaderboard.figures import make_plots, save_figure
from halobench.leaderboard.noise_table import noise_table
from halobench.leaderboard.page import render_page
from halobench.leaderboard.published import published_tables
from halobench.leaderboard.published_figures import published_plots
from halobench.leaderboard.published_text import BuiltPublished
from halobench.leaderboard.studies import Study, make_study, study_notes, study_plots
from halobench.leaderboard.tables import make_tables, rounded
from halobench.leaderboard.text import BuiltBoard, render_markdown
from halobench.results.store import Store
from halobench.storage import atomic_folder


def build_boards(store: Store) -> list[BuiltBoard]:
    """Make every board of a results folder, without figures files."""
    boards = []
    for setting in load_settings(store):
        tables = make_tables(setting, compare(setting))
        boards.append(BuiltBoard(setting, tables, [], ""))
    settings = [board.setting for board in boards]
    return [board._replace(stem=board_stem(board.setting, settings)) for board in boards]


def board_stem(setting: Setting, settings: Sequence[Setting]) -> str:
    """Beginning of a board's file names: its suite, with its setting where the suite has several."""
    name = setting.suite.replace("/", "-")
    suites = [other.suite for other in settings]
    return name if suites.count(setting.suite) == 1 else f"{name}-{setting.setting_id[:6]}"


def build_studies(boards: Sequence[BuiltBoard]) -> list[Study]:
    """Look at each suite as a whole, in the order of their first boards."""
    suites: dict[str, list[Setting]] = {}
    for board in boards:
        suites.setdefault(board.setting.suite, []).append(board.setting)
    return [make_study(settings) for settings in suites.values()]


def _with_figures(boards: Sequence[BuiltBoard], studies: Sequence[Study]) -> list[BuiltBoard]:
    """Draw each board; what is said of a suite as a whole stands at its first board."""
    whole = {id(study.settings[0]): study for study in studies}
    found = []
    for board in boards:
        study, plots = whole.get(id(board.setting)), make_plots(board.setting, board.tables)
        if study is not None:
            plots = [*study_plots(study), *plots]
            notes = [*board.tables.notes, *study_notes(study)]
            board = board._replace(tables=board.tables._replace(notes=notes))
        found.append(board._replace(plots=plots))
    return found


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
    bare = build_boards(store)
    studies = build_studies(bare)
    boards = _with_figures(bare, studies)
    published = build_published(results)
    with atomic_folder(target) as folder:
        write_csv(folder / "leaderboard.csv", [board.tables.rows for board in boards])
        write_csv(folder / "contrasts.csv", [board.tables.contrasts for board in boards])
        write_csv(folder / "cost.csv", [board.tables.cost for board in boards])
        for name, tables in _whole_tables(boards, studies).items():
            if tables:
                write_csv(folder / f"{name}.csv", tables)
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
        (folder / "README.md").write_text(
            render_markdown(boards, version, published), encoding="utf-8", newline="\n"
        )
        (folder / "index.html").write_text(
            render_page(boards, version, published), encoding="utf-8", newline="\n"
        )
    return boards


def _whole_tables(boards: Sequence[BuiltBoard], studies: Sequence[Study]) -> dict[str, list[pd.DataFrame]]:
    """What is written only where there is something: trends, noise, and losses over all settings."""
    found = {
        "trends": [study.trends for study in studies],
        "noise": [noise_table(board.setting, board.tables.comparisons) for board in boards],
        "aggregate": [study.aggregate.table for study in studies if study.aggregate is not None],
    }
    return {name: [table for table in tables if not table.empty] for name, tables in found.items()}


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
    """Write tables below each other, floats with six significant digits."""
    filled = [frame for frame in frames if not frame.empty] or list(frames[:1]) or [pd.DataFrame()]
    frame = pd.concat(filled, ignore_index=True)
    rounded(frame).to_csv(path, index=False, lineterminator="\n")
