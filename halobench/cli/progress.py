"""What a running suite shows: a bar for the suite and one per worker; lines where nobody can see bars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Bar
from rich.text import Text

if TYPE_CHECKING:
    from halobench.pool import Task, Watcher


@contextmanager
def progress_display() -> Iterator[Watcher]:
    """Yield a watcher that shows progress on standard error until the block ends."""
    console = Console(stderr=True)
    if console.is_terminal:
        bars = _Bars(console)
        with bars.progress:
            yield bars
    else:
        yield _Lines()


@contextmanager
def phase_display() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what is told phase, done and total of something long: a bar per phase where people can see it."""
    console = Console(stderr=True)
    with _progress(console) as progress:
        bars: dict[str, TaskID] = {}

        def report(phase: str, done: int, total: int) -> None:
            if phase not in bars:
                bars[phase] = progress.add_task(phase, total=total)
            progress.update(bars[phase], completed=done, total=total)

        yield report


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=600,
        disable=not console.is_terminal,
    )


class _Rate(ProgressColumn):
    """Steps per second, or runs per minute where they are slow."""

    def render(self, task: Bar) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min")


class _Bars:
    """Live bars."""

    def __init__(self, console: Console) -> None:
        self.progress = _progress(console)
        self._suite: TaskID | None = None
        self._workers: dict[int, TaskID] = {}
        self._phases: dict[int, str] = {}

    def expected(self, count: int) -> None:
        self._suite = self.progress.add_task("[bold]suite", total=count)

    def started(self, worker: int, task: Task) -> None:
        if worker not in self._workers:
            self._workers[worker] = self.progress.add_task("", total=None)
        self._phases[worker] = ""
        self.progress.reset(self._workers[worker], description=_name(task), total=None)

    def progressed(self, worker: int, phase: str, done: int, total: int) -> None:
        bar = self._workers[worker]
        if self._phases[worker] != phase:
            self._phases[worker] = phase
            name = self.progress.tasks[self.progress.task_ids.index(bar)].description.split("  ")[0]
            self.progress.reset(bar, description=f"{name}  {phase}", total=total)
        self.progress.update(bar, completed=done, total=total)

    def ended(self, worker: int, task: Task, status: str, seconds: float) -> None:
        if status != "completed":
            self.progress.console.print(f"{_name(task)}: {status} after {seconds:.0f} s")
        if self._suite is not None:
            self.progress.advance(self._suite)


class _Lines:
    """A line per task that ends."""

    def __init__(self) -> None:
        self._count = 0
        self._total = 0
        self._seconds = 0.0

    def expected(self, count: int) -> None:
        self._total = count
        if count:
            print(f"{count} tasks to do", file=sys.stderr, flush=True)

    def started(self, worker: int, task: Task) -> None:
        """Nothing: the end of it is told."""

    def progressed(self, worker: int, phase: str, done: int, total: int) -> None:
        """Nothing: a log should not scroll."""

    def ended(self, worker: int, task: Task, status: str, seconds: float) -> None:
        self._count += 1
        self._seconds += seconds
        left = self._seconds / self._count * (self._total - self._count)
        print(
            f"[{self._count}/{self._total}] {_name(task)}: {status} in {seconds:.1f} s"
            f" (about {left:.0f} worker-seconds left)",
            file=sys.stderr,
            flush=True,
        )


def _name(task: Task) -> str:
    if task.stage is not None:
        return f"stage {task.name}"
    recipe = task.recipe
    return task.name if recipe.label == recipe.name else f"{task.name} ({recipe.label})"
