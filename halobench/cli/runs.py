"""The verbs that run and build: run, leaderboard."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halobench.api import SuiteRun, board_folder, run_suite
from halobench.compose import Suite, compose
from halobench.errors import ResultsError
from halobench.results.store import Store

if TYPE_CHECKING:
    from halobench.grid import Outcome
    from halobench.leaderboard.text import BuiltBoard


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, show the board, say what is left."""
    suite = compose(arguments.recipe, arguments.overrides, arguments.plugin)
    done = run_watched(suite, arguments)
    if done.board is None:
        return 130
    _print_boards(board for board in done.boards if board.setting.suite == suite.name)
    print(f"board: {done.board / 'index.html'}")
    if done.outcome.done:
        print(_where_time_went(done.outcome, Store(arguments.results)))
    return 1 if done.outcome.failed or done.outcome.skipped else 0


def run_watched(suite: Suite, arguments: argparse.Namespace) -> SuiteRun:
    """Run what is missing of a suite in front of the user, and say what failed, or how to go on."""
    from halobench.cli.progress import progress_display

    with progress_display() as watcher:
        done = run_suite(
            suite,
            jobs=arguments.jobs,
            results=arguments.results,
            limit=arguments.limit,
            force=arguments.force,
            watcher=watcher,
        )
    for note in suite.notes:
        print(f"note: {note}", file=sys.stderr)
    _report_failures(done)
    if done.board is None:
        left = _missing(done, arguments.results)
        print(f"stopped: {len(done.outcome.done)} runs done now, {left} left; go on with:", file=sys.stderr)
        print(f"  {_command(arguments)}", file=sys.stderr)
    return done


def _where_time_went(outcome: Outcome, store: Store) -> str:
    """Shares of the workers' time; the reference's log-probabilities are part of training."""
    timings = [store.timing(run_id) for run_id in outcome.done]
    total = sum(outcome.seconds.values())
    training = sum((timing.get("align") or {}).get("wall", 0.0) for timing in timings)
    training += sum(seconds for name, seconds in outcome.seconds.items() if name not in outcome.done)
    sampled = [timing.get("sampling", {"tokens": 0, "seconds": 0.0}) for timing in timings]
    sampling = sum(each["seconds"] for each in sampled)
    scoring = sum(sum(timing.get("scoring", {}).values()) for timing in timings) - sampling
    shares = {"training": training, "sampling": sampling, "the rest of scoring": scoring}
    shares["everything else"] = max(0.0, total - sum(shares.values()))
    rate = sum(each["tokens"] for each in sampled) / sampling if sampling else 0.0
    told = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in shares.items())
    return f"worker time {seconds_text(total)}: {told}; {rate:,.0f} tokens sampled per second"


def _report_failures(done: SuiteRun) -> None:
    for name, status in done.outcome.done.items():
        if status != "completed":
            print(f"{name}: {status}, and recorded as such", file=sys.stderr)
    for name, reason in done.outcome.failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    for name in done.outcome.skipped:
        print(f"skipped: {name}: a stage that it needs failed", file=sys.stderr)


def _missing(done: SuiteRun, results: Path) -> int:
    store = Store(results)
    return len({r.run_id for r in done.suite.recipes if not store.has_run(r.run_id)})


def _command(arguments: argparse.Namespace) -> str:
    parts = [
        "halobench",
        arguments.verb,
        arguments.recipe,
        *arguments.overrides,
        "--results",
        str(arguments.results),
    ]
    for plugin in arguments.plugin:
        parts += ["--plugin", plugin]
    parts += ["--jobs", str(arguments.jobs)] if arguments.jobs is not None else []
    return shlex.join(parts)


def seconds_text(seconds: float | None) -> str:
    """Say how long something takes."""
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def leaderboard(arguments: argparse.Namespace) -> int:
    """Rebuild the board, or check that it is fresh."""
    from halobench.leaderboard.build import build, stale_files

    if not arguments.results.is_dir():
        raise ResultsError(
            f"{arguments.results}: no such results folder; run a suite, or name one with --results"
        )
    target = board_folder(arguments.results)
    if arguments.check:
        stale = stale_files(arguments.results, target)
        for name in stale:
            print(f"stale: {target / name}; rebuild it with `halobench leaderboard`", file=sys.stderr)
        return 1 if stale else 0
    _print_boards(build(arguments.results, target, jobs=os.cpu_count() or 1))
    print(f"board: {target / 'index.html'}")
    return 0


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, columns below each other."""
    widths = [max(len(line[k]) for line in [headers, *rows]) for k in range(len(headers))]
    for line in [headers, *rows]:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _print_boards(boards: Iterable[BuiltBoard]) -> None:
    """Print boards as text."""
    from halobench.leaderboard.text import display_table

    for board in boards:
        headers, rows = display_table(board)
        print(f"\n{board.setting.suite}, setting {board.setting.setting_id}\n")
        print("\n".join(aligned(headers, rows)))
        print()
        for note in board.tables.notes:
            print(f"- {note}")
        print()
