"""A worker process: takes jobs from its standard input, one JSON object per line, until the input ends."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from halobench.errors import HalobenchError
from halobench.storage import WRITING, home

STOP = "stop"


def main() -> None:
    """Serve jobs, or, with `--train FILE`, be one rank of a training stage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like a message
    if sys.argv[1:2] == ["--train"]:
        _watch(queue.Queue())
        _train(json.loads(Path(sys.argv[2]).read_text()), channel)
        return
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    _watch(jobs)
    while True:
        _serve(jobs.get(), channel)


def _watch(jobs: queue.Queue[Any]) -> None:
    """Read jobs in the background; when the input ends, or says stop, leave after the write in progress."""

    def read() -> None:
        for line in sys.stdin:
            job = json.loads(line)
            if job == STOP:
                break
            jobs.put(job)
        with WRITING:
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()


def _serve(job: dict[str, Any], channel: TextIO) -> None:
    def send(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")

    log = home() / "logs" / f"{job['name']}.log"
    with _logged(log):
        try:
            status = _do(job, lambda phase, done, total: send({"progress": [phase, done, total]}))
            send({"done": status})
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            send({"failed": describe(error), "log": str(log)})


def describe(error: Exception) -> str:
    """Say what went wrong: what the user can mend as it is, anything else with its type."""
    return str(error) if isinstance(error, HalobenchError) else f"{type(error).__name__}: {error}"


@contextmanager
def _logged(log: Path) -> Iterator[None]:
    """Send everything that is printed, by whatever library, to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(2)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept, 1)
        os.dup2(kept, 2)
        os.close(kept)


def _do(job: dict[str, Any], report: Any) -> str:
    import torch

    from halobench.recipe import Recipe
    from halobench.registry import load_plugin
    from halobench.results.store import Store
    from halobench.run import execute
    from halobench.stages import StageKey, make_stage

    recipe = Recipe.model_validate(job["recipe"])
    for plugin in recipe.plugins:
        load_plugin(plugin)
    torch.set_num_threads(recipe.execution.threads)
    if job["stage"] is not None:
        make_stage(recipe, StageKey(*job["stage"]), report)
        return "completed"
    return execute(recipe, Store(Path(job["results"])), report, force=job["force"])


def _train(job: dict[str, Any], channel: TextIO) -> None:
    """Be one rank: every rank trains, rank 0 writes and reports."""
    import torch

    from halobench.materials import Materials, Round
    from halobench.recipe import Recipe
    from halobench.registry import load_plugin
    from halobench.training.stage import train_stage

    recipe = Recipe.model_validate(job["recipe"])
    for plugin in recipe.plugins:
        load_plugin(plugin)
    torch.set_num_threads(recipe.execution.threads)

    def send(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")

    try:
        train_stage(
            Materials(
                recipe, None if job["round"] is None else Round(job["round"][0], Path(job["round"][1]))
            ),
            job["stage"],
            job["name"],
            None if job["start"] is None else Path(job["start"]),
            Path(job["output"]),
            lambda phase, done, total: send({"progress": [phase, done, total]}),
            reference=None if job["reference"] is None else Path(job["reference"]),
        )
    except Exception as error:
        send({"failed": describe(error)})
        raise


if __name__ == "__main__":
    main()
