"""`add`: another results folder, or one run of it, becomes part of a store, all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from halobench.errors import ResultsError
from halobench.results.journal import JOURNALS, Retraction, Verification, add_lines, read_lines, retractions
from halobench.results.store import RECORD, TIMING, Store
from halobench.results.validate import SCHEMA, validate
from halobench.storage import WRITING, file_digest

_MERGED = ("runs", "promptsets", "suites", "imports", SCHEMA, *JOURNALS)


class Added(NamedTuple):
    """What was added.

    Attributes:
        num_runs: new runs.
        num_same: runs that were there with the same digests.
        num_files: new files of all kinds.
        num_lines: new lines of the journals.
        left: other entries of the folder, which are no facts about runs and were left out.
    """

    num_runs: int
    num_same: int
    num_files: int
    num_lines: int
    left: list[str]


@dataclass
class _Plan:
    files: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def add(path: Path, store: Store, report: Callable[[int, int], None] = lambda done, total: None) -> Added:
    """Add the facts of another results folder, or of the folder of one run.

    Args:
        path: of either.
        store: what they are added to.
        report: told how many runs of how many are checked.

    Raises:
        ResultsError: something is wrong with them, or a fact is here with other digests; nothing was written.
    """
    if not path.is_dir():
        raise ResultsError(f"{path}: no such folder; name a results folder, or that of a run")
    if path.resolve() == store.root.resolve() or store.root.resolve() in path.resolve().parents:
        raise ResultsError(f"{path}: is in {store.root} already; name another results folder")
    with TemporaryDirectory() as scratch:
        source = _alone(path, store, Path(scratch)) if (path / RECORD).is_file() else Store(path)
        found = validate(source, report)
        if not found.num_runs and not any((path / name).exists() for name in _MERGED):
            raise ResultsError(f"{path}: holds no results; name a results folder, or that of a run")
        if found.problems:
            raise ResultsError(*found.problems, f"{path}: nothing was added; mend it first")
        return _merge(source, store, left=_others(path) if source.root == path else [])


def _alone(folder: Path, store: Store, scratch: Path) -> Store:
    """A results folder of one run, with the prompts that it or the store has."""
    shutil.copytree(folder, scratch / "runs" / folder.name, symlinks=True)
    for root in (store.root, folder.parent.parent):
        if (root / "promptsets").is_dir():
            shutil.copytree(root / "promptsets", scratch / "promptsets", dirs_exist_ok=True)
    return Store(scratch)


def _others(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name not in _MERGED)


def _merge(source: Store, store: Store, left: list[str]) -> Added:
    plan = _Plan()
    new = [run_id for run_id in source.run_ids() if not store.has_run(run_id)]
    same = [run_id for run_id in source.run_ids() if store.has_run(run_id)]
    for file in _facts(source.root):
        _plan_file(file, source.root, store.root, plan)
    if plan.conflicts:
        raise ResultsError(*plan.conflicts)
    lines = _new_lines(source, store)
    _copy(plan.files, source.root, store.root)
    for name, added in lines.items():
        if added:
            add_lines(store.root / name, added)
    return Added(len(new), len(same), len(plan.files), sum(map(len, lines.values())), left)


def _facts(root: Path) -> Iterator[str]:
    """Files of the facts; the record of a run is last of its files."""
    for pattern in ("promptsets/*.parquet", "imports/*.json", "runs/*/**/*", "suites/**/*.json"):
        files = [file for file in root.glob(pattern) if file.is_file()]
        yield from (
            file.relative_to(root).as_posix()
            for file in sorted(files, key=lambda file: (file.parent.name, file.name == RECORD, file))
        )


def _plan_file(name: str, source: Path, target: Path, plan: _Plan) -> None:
    mine, theirs = target / name, source / name
    if not mine.is_file():
        plan.files.append(name)
    elif theirs.name == TIMING or name.startswith("promptsets/"):
        return  # timings differ by nature; prompts are the same where their name, a digest, is
    elif theirs.name == RECORD:
        ours, other = (Store(root).record(mine.parent.name).identity for root in (target, source))
        if ours != other:
            plan.conflicts.append(f"{theirs}: has another identity than {mine}; nothing was added")
    elif file_digest(mine) != file_digest(theirs):
        plan.conflicts.append(
            f"{theirs}: came out differently than {mine}; nothing was added. The same recipe must give the "
            "same bytes on one machine: please report this, or retract the run that is wrong"
        )


def _new_lines(source: Store, store: Store) -> dict[str, list[Retraction | Verification]]:
    lines = {}
    for name, kind in JOURNALS.items():
        known: list[Retraction | Verification] = list(read_lines(store.root / name, kind))
        gone = retractions(store)
        lines[name] = [
            line
            for line in read_lines(source.root / name, kind)
            if line not in known and not (isinstance(line, Retraction) and line.run_id in gone)
        ]
    return lines


def _copy(names: list[str], source: Path, target: Path) -> None:
    """Copy beside the store first; then every file takes its place, or none keeps it."""
    target.mkdir(parents=True, exist_ok=True)
    placed: list[Path] = []
    with TemporaryDirectory(dir=target, prefix=".tmp-0-add-") as scratch:
        for name in names:
            copy = Path(scratch) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, copy)
        with WRITING:
            try:
                for name in names:
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(scratch) / name).rename(target / name)
                    placed.append(target / name)
            except BaseException:
                for file in placed:
                    file.unlink()
                raise
