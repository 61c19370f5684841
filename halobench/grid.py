"""Many recipes: shared stages first, then the runs, over a bounded pool of worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from halobench.estimate import Cost, estimate
from halobench.materials import check_texts
from halobench.pool import Here, Task, Watcher, Workers
from halobench.published.sizes import unfetched
from halobench.recipe import Recipe
from halobench.results.store import Store
from halobench.run import is_done
from halobench.sections import Execution
from halobench.stages import stages_of
from halobench.storage import home, sweep


@dataclass
class Outcome:
    """What became of the tasks.

    Attributes:
        done: runs that were recorded now, with their status.
        failed: tasks that did not end well, with why.
        skipped: runs that could not start, because a stage of theirs failed.
        interrupted: whether the user stopped it.
        seconds: that each task took its worker.
    """

    done: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def missing_tasks(
    recipes: Sequence[Recipe], store: Store, *, limit: int | None = None, force: bool = False
) -> list[Task]:
    """List what has to be done, stages before the runs that need them; recorded runs are left out.

    Args:
        recipes: of the suite; points that mean the same run are one.
        store: where recorded runs are.
        limit: at most so many runs.
        force: recorded runs too; they are compared with their records.

    Raises:
        DataError: a chat template refuses prompts of the data.
    """
    distinct = {recipe.run_id: recipe for recipe in recipes}.values()
    wanted = [recipe for recipe in distinct if force or not is_done(recipe, store)][:limit]
    check_texts(recipe for recipe in wanted if not unfetched(recipe))
    stages: dict[str, Task] = {}
    runs = []
    for recipe in wanted:
        needs: tuple[str, ...] = ()
        for key in stages_of(recipe):
            name = key.path.name
            if not key.path.exists():
                stages.setdefault(name, Task(name, recipe, key, needs, False))
                needs = (*needs, name)
        runs.append(Task(recipe.run_id, recipe, None, needs, force))
    return [*sorted(stages.values(), key=lambda task: len(task.needs)), *runs]


def estimates(recipes: Sequence[Recipe], store: Store) -> dict[str, tuple[Cost, float | None]]:
    """Return, for each run_id, what it takes, about, and its seconds if a run like it is recorded.

    Seconds are the mean of the recorded runs of the same row, else of the same setting; on another machine
    they are another machine's. Seeds of one row are taken to cost the same.
    """
    records = list(store.records())

    def key_of(recipe: Recipe) -> tuple[str, str, Execution]:
        return recipe.setting_id, recipe.method_id, recipe.execution

    found: dict[tuple[str, str, Execution], tuple[Cost, float | None]] = {}
    for recipe in recipes:
        key = key_of(recipe)
        if key not in found:
            similar = [record for record in records if record.setting_id == recipe.setting_id]
            same = [record for record in similar if record.method_id == recipe.method_id]
            seconds = [_recorded_seconds(record.run_id, store) for record in same or similar]
            found[key] = estimate(recipe), sum(seconds) / len(seconds) if seconds else None
    return {recipe.run_id: found[key_of(recipe)] for recipe in recipes}


def _recorded_seconds(run_id: str, store: Store) -> float:
    timing = store.timing(run_id)
    return float((timing.get("align") or {}).get("wall", 0.0) + sum(timing.get("scoring", {}).values()))


def run_tasks(tasks: Sequence[Task], store: Store, *, jobs: int, watcher: Watcher) -> Outcome:
    """Do the tasks in `jobs` worker processes, or here if 0; one that fails never stops the others.

    The first interrupt lets every worker finish the write in progress and ends; the second ends at once.
    """
    for folder in (home(), store.root):
        if folder.is_dir():
            sweep(folder)
    pool = Here(store, watcher) if jobs == 0 else Workers(min(jobs, len(tasks)), store, watcher)
    watcher.expected(len(tasks))
    outcome = Outcome()
    waiting = list(tasks)
    ready = {task.name for task in tasks}  # stages still to be made; whatever is not here is there already
    try:
        while waiting or pool.is_busy:
            broken = set(outcome.failed) | set(outcome.skipped)
            for task in [task for task in waiting if broken & set(task.needs)]:
                waiting.remove(task)
                outcome.skipped.append(task.name)
            for task in [task for task in waiting if not ready & set(task.needs)]:
                if not pool.start(task):
                    break
                waiting.remove(task)
            for task, status, error, seconds in pool.wait():
                ready.discard(task.name)
                outcome.seconds[task.name] = seconds
                if error is not None:
                    outcome.failed[task.name] = error
                elif task.stage is None:
                    outcome.done[task.name] = status
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        pool.close()
    return outcome
