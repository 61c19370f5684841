"""`build`: from a results folder alone to the leaderboard's files, the same bytes every time."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pandas as pd
from matplotlib.figure import Figure

from halobench.leaderboard.beside import Beside, BuiltTuning
from halobench.leaderboard.contrasts import compare
from halobench.leaderboard.cube import Setting, noted_settings
from halobench.leaderboard.featured import FEATURED, by_size, featured
from halobench.leaderboard.figures import Plot, make_plots, save_figure
from halobench.leaderboard.figures.search import search_plots
from halobench.leaderboard.imported import imported_table
from halobench.leaderboard.page import render_pages
from halobench.leaderboard.page.render import slug
from halobench.leaderboard.published import published_tables
from halobench.leaderboard.published_figures import published_plots
from halobench.leaderboard.published_text import BuiltPublished
from halobench.leaderboard.readme import with_boards
from halobench.leaderboard.studies import Study, make_study, study_notes, study_plots
from halobench.leaderboard.tables import make_tables, rounded
from halobench.leaderboard.text import BuiltBoard, render_markdown
from halobench.leaderboard.tuning import tunings
from halobench.results.store import Store
from halobench.results.tidy import harmless
from halobench.results.tidy import write_csv as write_quoted
from halobench.storage import atomic_folder, write_text

README = "README.md"


def build_boards(store: Store, figure: str = "") -> list[BuiltBoard]:
    """Make every board of a results folder without its figures, or those that can have the figure named."""
    settings = noted_settings(store)
    return _made([s for s in settings if not figure or figure.startswith(_suite_stem(s))], None)


def _made(settings: Sequence[Setting], pool: Executor | None) -> list[BuiltBoard]:
    """Make the boards in order, their stems included."""
    make = _make if len(settings) <= FEATURED else _make_lean
    boards = [board for board in _each(pool, make, settings) if board is not None]
    stems = board_stems([board.setting for board in boards])
    return [board._replace(stem=stem) for board, stem in zip(boards, stems, strict=True)]


def _make(setting: Setting) -> BuiltBoard | None:
    """Make the board of a setting, if anything of it was run."""
    if not setting.rows:
        return None
    return BuiltBoard(setting, make_tables(setting, compare(setting)), [], "")


def _make_lean(setting: Setting) -> BuiltBoard | None:
    """Make the board, and keep nothing of its runs in memory: so many do not fit."""
    board = _make(setting)
    setting.release()
    return board


def board_stems(settings: Sequence[Setting]) -> list[str]:
    """Beginnings of the boards' file names: the suite, with the setting where the suite has several."""
    names = [_suite_stem(setting) for setting in settings]
    return [
        name if names.count(name) == 1 else f"{name}-{setting.setting_id[:6]}"
        for name, setting in zip(names, settings, strict=True)
    ]


def _suite_stem(setting: Setting) -> str:
    return slug(setting.suite.replace("/", "-"))


def build_studies(boards: Sequence[BuiltBoard]) -> dict[str, Study]:
    """Look at each suite as a whole; it is named by the stem of its first board."""
    suites: dict[str, list[BuiltBoard]] = {}
    for board in boards:
        suites.setdefault(board.setting.suite, []).append(board)
    return {members[0].stem: make_study([board.setting for board in members]) for members in suites.values()}


def build_published(results: Path) -> BuiltPublished | None:
    """Make what is shown of the published numbers of a results folder, if it has any."""
    tables = published_tables(results)
    return None if tables is None else BuiltPublished(tables, published_plots(tables.counts))


def build(results: Path, target: Path, jobs: int = 1) -> list[BuiltBoard]:
    """Write the leaderboard of `results` into `target`, replacing what is there, and the README's tables.

    The files depend on the results only: no clock, no network, no host, no locale, no order of folders.

    Args:
        results: the results folder.
        target: folder to write.
        jobs: processes to share the boards between, where they are many; more than one start this program
            anew, so its main module must be one that can be imported.

    Returns:
        The boards; figures that were drawn in another process stay there.
    """
    store = Store(results)
    settings = noted_settings(store)
    with _workers(jobs if len(settings) > FEATURED else 1) as pool, atomic_folder(target) as folder:
        boards = _made(settings, pool)
        figures = folder / "figures"
        figures.mkdir()
        chosen = featured(boards)
        shown = [board for board in boards if board.stem in chosen]
        drawn = _each(pool, partial(_draw if pool is None else _draw_there, figures), shown)
        studies = build_studies(shown)
        write_csv(folder / "leaderboard.csv", [board.tables.rows for board in boards])
        write_csv(folder / "contrasts.csv", [board.tables.contrasts for board in boards])
        write_csv(folder / "cost.csv", [board.tables.cost for board in boards])
        beside = _beside(store, boards, studies, folder)
        version = store.data_version()
        boards = [
            _with_study(next(drawn), studies.get(board.stem), figures)
            if board.stem in chosen
            else _without_figures(board)
            for board in boards
        ]
        _write_text(folder / "README.md", render_markdown(by_size(boards), version, beside))
        for name, text in render_pages(by_size(boards), chosen, version, beside):
            _write_text(folder / name, text)
    readme = target.parent / README
    if readme.is_file() and not has_boards(readme, boards):
        write_text(readme, with_boards(readme.read_text(encoding="utf-8"), boards))
    return boards


def has_boards(readme: Path, boards: Sequence[BuiltBoard]) -> bool:
    """Whether every block of a README holds the table of its board."""
    text = readme.read_text(encoding="utf-8")
    return with_boards(text, boards) == text


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _beside(store: Store, boards: Sequence[BuiltBoard], studies: Mapping[str, Study], folder: Path) -> Beside:
    """Write what not every leaderboard has: searches, others' numbers, and the tables that have lines."""
    published, imported = build_published(store.root), imported_table(store)
    if published is not None:
        _write_published(folder / "published", published)
    if len(imported):
        write_quoted(rounded(imported), folder / "imported.csv")
    searches = build_tunings(store)
    for built in searches:
        _saved(built.plots, folder / "figures", built.stem)
    tables = {
        "noise.csv": [board.tables.noise for board in boards],
        "trends.csv": [study.trends for study in studies.values()],
        "aggregate.csv": [study.aggregate.table for study in studies.values() if study.aggregate is not None],
        "tuning.csv": [built.tuning.settings for built in searches],
        "tuned.csv": [built.tuning.chosen for built in searches],
    }
    filled = {name: [part for part in parts if not part.empty] for name, parts in tables.items()}
    for name, parts in filled.items():
        if parts:
            write_csv(folder / name, parts)
    written = [name for name, parts in filled.items() if parts]
    return Beside(published, imported, searches, [*written, *(["imported.csv"] if len(imported) else [])])


def build_tunings(store: Store) -> list[BuiltTuning]:
    """Make what is shown of every search, without its files."""
    found = tunings(store)
    return [
        BuiltTuning(each, search_plots(each), f"search-{slug(each.suite.replace('/', '-'))}")
        for each in found
    ]


def _draw(folder: Path, board: BuiltBoard) -> BuiltBoard:
    return board._replace(plots=_saved(make_plots(board.setting, board.tables), folder, board.stem))


def _draw_there(folder: Path, board: BuiltBoard) -> BuiltBoard:
    """Draw in another process; what was drawn is on disk, so neither figures nor runs are sent back."""
    drawn = _draw(folder, board)
    board.setting.release()
    return drawn._replace(plots=[plot._replace(figure=Figure()) for plot in drawn.plots])


def _with_study(board: BuiltBoard, study: Study | None, folder: Path) -> BuiltBoard:
    """Put what is said of a suite as a whole before what is said of its first board."""
    if study is None:
        return board
    plots = [*_saved(study_plots(study), folder, board.stem), *board.plots]
    notes = [*board.tables.notes, *study_notes(study)]
    return board._replace(plots=plots, tables=board.tables._replace(notes=notes))


def _saved(plots: list[Plot], folder: Path, stem: str) -> list[Plot]:
    for plot in plots:
        save_figure(plot.figure, folder / f"{stem}-{plot.name}.svg")
        write_csv(folder / f"{stem}-{plot.name}.csv", [plot.table])
    return plots


def _without_figures(board: BuiltBoard) -> BuiltBoard:
    note = (
        f"Figures are drawn of the {FEATURED} boards with most runs; halobench plot {board.stem}-scores "
        "draws one of this board."
    )
    return board._replace(tables=board.tables._replace(notes=[*board.tables.notes, note]))


ItemT = TypeVar("ItemT")
MadeT = TypeVar("MadeT")


def _each(
    pool: Executor | None, function: Callable[[ItemT], MadeT], items: Sequence[ItemT]
) -> Iterator[MadeT]:
    """Apply a function to every item, in order of the items; processes begin at once."""
    return map(function, items) if pool is None else pool.map(function, items)


@contextmanager
def _workers(jobs: int) -> Iterator[Executor | None]:
    """Yield that many processes, or None for this one alone."""
    if jobs == 1:
        yield None
        return
    # spawned: a fork would inherit the locks of threads that it does not have
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield pool


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
    """Names of the files in `target` that `results` does not give so, missing and superfluous ones too.

    A README beside it whose tables are others is one of them.
    """
    with TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "leaderboard"
        boards = build(results, fresh)
        names = {str(p.relative_to(root)) for root in (fresh, target) for p in root.rglob("*") if p.is_file()}
        stale = [
            name
            for name in names
            if not ((fresh / name).is_file() and (target / name).is_file())
            or not filecmp.cmp(fresh / name, target / name, shallow=False)
        ]
    readme = target.parent / README
    is_other = readme.is_file() and not has_boards(readme, boards)
    return sorted([*stale, *([f"../{README}"] if is_other else [])])


def write_csv(path: Path, frames: Sequence[pd.DataFrame]) -> None:
    """Write tables below each other, floats with six significant digits, no text as a formula."""
    filled = [frame for frame in frames if not frame.empty] or list(frames[:1]) or [pd.DataFrame()]
    frame = pd.concat(filled, ignore_index=True)
    rounded(frame).map(harmless).to_csv(path, index=False, lineterminator="\n")
