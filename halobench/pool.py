"""Who does the tasks of a suite: worker processes that take one at a time, or this process."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from halobench.recipe import Recipe
from halobench.results.store import Store
from halobench.run import execute
from halobench.stages import StageKey, make_stage
from halobench.storage import home
from halobench.worker import STOP, describe

_LOG_LINES = 5
_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # or else glibc gives freed tensors back to the system and asks for them again, a twelfth of the time
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}


@dataclass(frozen=True)
class Task:
    """Something a worker does: a shared stage, or a run.

    Attributes:
        name: of the stage's artifact, or the run_id.
        recipe: a recipe that needs the stage, or the run's.
        stage: the stage; None for a run.
        needs: names of the stages that must be there first.
        force: train and score again what is there, and compare.
    """

    name: str
    recipe: Recipe
    stage: StageKey | None
    needs: tuple[str, ...]
    force: bool


Ended = tuple[Task, str, str | None, float]  # a task, its status, what went wrong, seconds


class Watcher(Protocol):
    """Whoever shows the progress."""

    def expected(self, count: int) -> None:
        """So many tasks are to be done."""

    def started(self, worker: int, task: Task) -> None:
        """A worker took a task."""

    def progressed(self, worker: int, phase: str, done: int, total: int) -> None:
        """A worker is `done` of `total` into a phase of its task."""

    def ended(self, worker: int, task: Task, status: str, seconds: float) -> None:
        """A worker is through with a task."""


class Silent:
    """Shows nothing."""

    def expected(self, count: int) -> None:
        """Nothing."""

    def started(self, worker: int, task: Task) -> None:
        """Nothing."""

    def progressed(self, worker: int, phase: str, done: int, total: int) -> None:
        """Nothing."""

    def ended(self, worker: int, task: Task, status: str, seconds: float) -> None:
        """Nothing."""


class _Worker:
    """A process, and the task it is at."""

    def __init__(self, number: int, messages: queue.Queue[tuple[_Worker, str | None]]) -> None:
        self.number = number
        self.task: Task | None = None
        self.began = 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "halobench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**_ENVIRONMENT, **os.environ},
        )
        self._listener = threading.Thread(target=self._listen, args=(messages,), daemon=True)
        self._listener.start()

    def _listen(self, messages: queue.Queue[tuple[_Worker, str | None]]) -> None:
        for line in self.process.stdout or ():
            messages.put((self, line))
        messages.put((self, None))

    def send(self, message: Any) -> None:
        if self.process.stdin is None:
            return
        with suppress(BrokenPipeError):  # it is gone; the end of its output tells
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        code = self.process.wait()
        self._listener.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        return code


class Here:
    """Does each task in this process."""

    def __init__(self, store: Store, watcher: Watcher) -> None:
        self._store = store
        self._watcher = watcher
        self._ended: list[Ended] = []

    is_busy = False

    def start(self, task: Task) -> bool:
        """Do the task; its end is told by the next `wait`."""
        if self._ended:
            return False
        self._watcher.started(0, task)
        began = time.monotonic()
        status, error = "failed", None
        try:
            status = do_task(task, self._store, lambda *progress: self._watcher.progressed(0, *progress))
        except Exception as problem:
            error = describe(problem)
        seconds = time.monotonic() - began
        self._watcher.ended(0, task, status, seconds)
        self._ended.append((task, status, error, seconds))
        return True

    def wait(self) -> Iterator[Ended]:
        """Yield what ended."""
        while self._ended:
            yield self._ended.pop()

    def close(self) -> None:
        """Nothing is left behind."""


def do_task(task: Task, store: Store, report: Callable[[str, int, int], None]) -> str:
    """Do a task in this process; return the status of the run."""
    if task.stage is not None:
        make_stage(task.recipe, task.stage, report)
        return "completed"
    return execute(task.recipe, store, report, force=task.force)


class Workers:
    """Worker processes that take one task at a time; one that dies is replaced."""

    def __init__(self, size: int, store: Store, watcher: Watcher) -> None:
        self._store = store
        self._watcher = watcher
        self._messages: queue.Queue[tuple[_Worker, str | None]] = queue.Queue()
        self._workers = [_Worker(number, self._messages) for number in range(size)]

    @property
    def is_busy(self) -> bool:
        """Whether any worker is at a task."""
        return any(worker.task is not None for worker in self._workers)

    def start(self, task: Task) -> bool:
        """Give the task to an idle worker; False if there is none."""
        worker = next((worker for worker in self._workers if worker.task is None), None)
        if worker is None:
            return False
        worker.task, worker.began = task, time.monotonic()
        worker.send(
            {
                "name": task.name,
                "force": task.force,
                "recipe": task.recipe.model_dump(mode="json"),
                "stage": task.stage,
                "results": str(self._store.root),
            }
        )
        self._watcher.started(worker.number, task)
        return True

    def wait(self) -> Iterator[Ended]:
        """Handle messages until a task ends; yield it."""
        while True:
            try:
                worker, line = self._messages.get(timeout=1.0)  # with a timeout, an interrupt gets through
            except queue.Empty:
                if not self.is_busy:
                    return
                continue
            message: dict[str, Any] = {"died": True} if line is None else json.loads(line)
            task = worker.task
            if "progress" in message:
                self._watcher.progressed(worker.number, *message["progress"])
                continue
            if line is None:
                self._workers[worker.number] = _Worker(worker.number, self._messages)
            if task is None:
                return
            worker.task = None
            status, error = message.get("done", "failed"), None
            if "done" not in message:
                error = self._describe(worker, task, message)
            seconds = time.monotonic() - worker.began
            self._watcher.ended(worker.number, task, status, seconds)
            yield task, status, error, seconds
            return

    def _describe(self, worker: _Worker, task: Task, message: dict[str, Any]) -> str:
        log = home() / "logs" / f"{task.name}.log"
        if "failed" in message:
            return f"{message['failed']} (log: {log})"
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if log.is_file() else []
        code = worker.wait()
        return "\n".join([f"its worker died (exit code {code}); log: {log}, which ends in", *lines])

    def close(self) -> None:
        """End every worker after its write in progress; a second interrupt ends them at once."""
        try:
            for worker in self._workers:
                worker.send(STOP)
            for worker in self._workers:
                worker.wait()
        except KeyboardInterrupt:
            for worker in self._workers:
                worker.process.kill()
                worker.wait()
