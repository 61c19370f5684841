"""The verbs of the store: results validate, diff, add, export, import, verify, retract, schema."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from halobench.errors import ResultsError
from halobench.results import journal, merge
from halobench.results.import_readers import read_foreign
from halobench.results.imports import add_import
from halobench.results.record import record_schema
from halobench.results.store import Store
from halobench.results.tidy import tidy, write_csv, write_parquet
from halobench.results.validate import SCHEMA
from halobench.results.validate import validate as find_problems
from halobench.storage import write_text


def validate(arguments: argparse.Namespace) -> int:
    """Check everything of a results folder; exit 1 if anything is wrong, and only warn of what is strange."""
    from halobench.leaderboard.audit import suspicions

    store = _existing(arguments.results)
    with _bar() as report:
        found = find_problems(store, report)
    for problem in found.problems:
        print(problem)
    warnings = list(found.warnings) if found.problems else [*found.warnings, *suspicions(store)]
    for warning in warnings:
        print(f"warning: {warning}")
    if found.problems:
        print(f"{len(found.problems)} problems in {found.num_runs} runs", file=sys.stderr)
        return 1
    print(
        f"{arguments.results}: {found.num_runs} runs, all well, {len(warnings)} warnings; {found.num_whole} "
        "scores of whole runs have no per-prompt rows and were not computed again"
    )
    return 0


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("runs")
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def add(arguments: argparse.Namespace) -> int:
    """Add the facts of another results folder, or of one run."""
    with _bar() as report:
        added = merge.add(arguments.path, Store(arguments.results), report)
    print(
        f"{arguments.results}: {added.num_runs} runs added, {added.num_same} were there with the same "
        f"digests; {added.num_files} files, {added.num_lines} lines of journals"
    )
    if added.left:
        print(f"left out, as they are no facts about runs: {', '.join(added.left)}")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write all scores as one tidy table."""
    table = tidy(_existing(arguments.results))
    if arguments.csv is not None:
        write_csv(table, arguments.csv)
    else:
        write_parquet(table, arguments.parquet)
    print(
        f"wrote {arguments.csv or arguments.parquet}: {len(table)} scores of {table['run_id'].nunique()} runs"
    )
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """Keep numbers of another program beside the runs."""
    store = Store(arguments.results)
    found = read_foreign(arguments.source, arguments.path, arguments.name)
    file = add_import(store, found)
    checkpoints = len({score.checkpoint for score in found.scores})
    print(
        f"{file}: {len(found.scores)} numbers of {checkpoints} checkpoints; never ranked, shown below boards"
    )
    for reason, count in found.drops.items():
        print(f"left out: {count}, because: {reason}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Run a recorded run again and compare; exit 1 if it comes out differently."""
    from halobench.cli.progress import progress_display
    from halobench.verify import verify as run_again

    store = _existing(arguments.results)
    with progress_display() as watcher:
        found = run_again(store, arguments.run_id, arguments.overrides, arguments.tolerance, watcher)
    for difference in found.differences:
        print(difference)
    if found.num_unpaired:
        print(f"not compared: {found.num_unpaired} scores that only one of the two has")
    if found.reused:
        print(
            f"not made again: {', '.join(found.reused)}; with another folder in HALOBENCH_HOME they are too"
        )
    if found.otherwise:
        print(f"run otherwise, which may change last digits: {'; '.join(found.otherwise)}")
    line = found.line
    verdict = "agrees" if line.agrees else "DIFFERS"
    print(
        f"{line.run_id}: {verdict}; {line.num_differing} of {line.num_scores} scores differ by more than "
        f"{line.tolerance:g}, at most {line.largest:.3g}; {found.same_files[0]} of {found.same_files[1]} "
        "files have the same bytes"
    )
    return 0 if line.agrees else 1


def retract(arguments: argparse.Namespace) -> int:
    """Say that a run does not count any more."""
    line = journal.retract(
        _existing(arguments.results), arguments.run_id, arguments.reason, arguments.superseded_by
    )
    print(f"retracted {line.run_id}; its files stay. Take it off the board with `halobench leaderboard`")
    return 0


def _existing(folder: Path) -> Store:
    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such results folder; run a suite, or name one with --results")
    return Store(folder)


def schema(arguments: argparse.Namespace) -> int:
    """Write the JSON Schema of run.json."""
    file = _existing(arguments.results).root / SCHEMA
    write_text(file, record_schema())
    print(f"wrote {file}")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Compare two results folders verdict by verdict; exit 1 if an established direction is reversed."""
    verdicts = [_verdicts(folder) for folder in (arguments.first, arguments.second)]
    shared = [key for key in verdicts[0] if key in verdicts[1]]
    if not shared:
        raise ResultsError(f"{arguments.first} and {arguments.second} have no comparison in common")
    reversals = 0
    changed = []
    for key in shared:
        first, second = (found[key] for found in verdicts)
        reversed_ = (
            first["separated"] and second["separated"] and first["difference"] * second["difference"] < 0
        )
        reversals += bool(reversed_)
        if first["verdict"] != second["verdict"]:
            family, decode, a, b = key
            changed.append(
                f"  {a} - {b} ({family}, {decode}): {first['verdict']} ({first['difference']:+.3f}) -> "
                f"{second['verdict']} ({second['difference']:+.3f}){'  REVERSED' if reversed_ else ''}"
            )
    largest = max(abs(verdicts[0][key]["difference"] - verdicts[1][key]["difference"]) for key in shared)
    print(
        f"{arguments.first} against {arguments.second}: {len(shared) - len(changed)} of {len(shared)} "
        f"verdicts agree, {reversals} reversed; estimates differ by at most {largest:.3f}"
    )
    print("\n".join(changed), end="\n" if changed else "")
    only = [len(found.keys() - set(shared)) for found in verdicts]
    if any(only):
        print(f"not compared: {only[0]} comparisons of the first only, {only[1]} of the second only")
    return 1 if reversals else 0


def _verdicts(folder: Path) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    from halobench.leaderboard.build import build_boards

    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such results folder")
    found: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for board in build_boards(Store(folder)):
        for row in board.tables.contrasts.to_dict("records"):
            family = f"{row['suite']} {row['setting'][:6]}: {row['family']}"
            key = (family, str(row["decode"]), str(row["a"]), str(row["b"]))
            found[key] = {str(name): value for name, value in row.items()}
    return found
