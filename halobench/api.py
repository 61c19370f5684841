"""What Python programs call: run a recipe, read results, read the board, export a policy."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from halobench.compose import Suite, compose
from halobench.errors import RecipeError, TrainingError
from halobench.registry import LOSSES
from halobench.results.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from halobench.grid import Outcome
    from halobench.leaderboard.text import BuiltBoard
    from halobench.losses.base import Loss
    from halobench.pool import Watcher

DEFAULT_RESULTS = Path("results")
DEFAULT_BOARD = Path("leaderboard")


class SuiteRun(NamedTuple):
    """What a run of a suite led to.

    Attributes:
        suite: the recipes.
        outcome: what became of those that were missing.
        board: folder of the rebuilt leaderboard; None where the run was interrupted.
        boards: what is in it.
    """

    suite: Suite
    outcome: Outcome
    board: Path | None
    boards: Sequence[BuiltBoard] = ()


def run(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    plugins: Sequence[str | Path] = (),
    loss: Loss | None = None,
    jobs: int | None = None,
    results: str | Path = DEFAULT_RESULTS,
    limit: int | None = None,
    force: bool = False,
) -> pd.DataFrame:
    """Run what is missing of a recipe, rebuild the board, and return the scores of its runs.

    Args:
        recipe: path of a YAML file, or the name of a built-in recipe.
        overrides: `key.path=value` each.
        plugins: Python files to import first.
        loss: a registered loss with its parameters, instead of those of the recipe. One that was defined in a
            notebook runs in this process.
        jobs: worker processes; 0 runs in this process; by default one per processor.
        results: folder of the records.
        limit: at most so many missing runs.
        force: run again what is recorded, and compare.

    Returns:
        One row per run, scorer, task and metric, as `results` gives them.

    Raises:
        HalobenchError: the recipe is not valid, or some runs failed (the others are recorded).
    """
    if loss is not None and _source_file(loss) is None:
        jobs = 0
    stated = None if loss is None else _stated(loss)
    done = run_suite(
        compose(recipe, overrides, [str(plugin) for plugin in plugins], loss=stated),
        jobs=jobs,
        results=Path(results),
        limit=limit,
        force=force,
    )
    if done.outcome.failed:
        raise TrainingError(*(f"{name}: {reason}" for name, reason in done.outcome.failed.items()))
    table = Store(Path(results)).results()
    return table[table["run_id"].isin([r.run_id for r in done.suite.recipes])].reset_index(drop=True)


def run_suite(
    suite: Suite,
    *,
    jobs: int | None = None,
    results: Path = DEFAULT_RESULTS,
    limit: int | None = None,
    force: bool = False,
    watcher: Watcher | None = None,
) -> SuiteRun:
    """Run what is missing of a suite with somebody watching; see `run`."""
    from halobench.grid import missing_tasks, run_tasks
    from halobench.leaderboard.build import build
    from halobench.pool import Silent

    store = Store(results)
    tasks = missing_tasks(suite.recipes, store, limit=limit, force=force)
    store.add_suite(suite.name, suite.recipes)
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    outcome = run_tasks(tasks, store, jobs=jobs, watcher=watcher or Silent())
    if outcome.interrupted:
        return SuiteRun(suite, outcome, None)
    board = board_folder(results)
    return SuiteRun(suite, outcome, board, build(results, board))


def board_folder(results: Path) -> Path:
    """Where the board of a results folder goes: beside the default folder, inside any other."""
    return DEFAULT_BOARD if results == DEFAULT_RESULTS else results / DEFAULT_BOARD


def results(folder: str | Path = DEFAULT_RESULTS) -> pd.DataFrame:
    """Return every score of a results folder: one row per run, scorer, task and metric."""
    return Store(Path(folder)).results()


def leaderboard(folder: str | Path = DEFAULT_RESULTS) -> pd.DataFrame:
    """Return the rows of every board of a results folder, as leaderboard.csv has them."""
    import pandas as pd

    from halobench.leaderboard.build import build_boards

    boards = [board.tables.rows for board in build_boards(Store(Path(folder)))]
    return pd.concat(boards, ignore_index=True) if boards else pd.DataFrame()


def export(
    run_id: str, folder: str | Path, *, adapter: bool = False, results: str | Path = DEFAULT_RESULTS
) -> None:
    """Write the aligned policy of a run as a folder that `AutoModelForCausalLM.from_pretrained` loads.

    Args:
        run_id: of an aligned run whose models are still there.
        folder: a new one.
        adapter: write only the adapter, in peft's format.
        results: folder of the records.

    Raises:
        ResultsError: there is no such policy or adapter, or something is in the folder.
    """
    from halobench.export import export_policy

    export_policy(run_id, Path(folder), Store(Path(results)), only_adapter=adapter)


def _stated(loss: Loss) -> dict[str, object]:
    """The loss as a recipe states it, with the file that workers import it from."""
    names = [name for name in LOSSES if LOSSES.is_loaded(name) and LOSSES[name] is type(loss)]
    if not names:
        raise RecipeError(
            f"{type(loss).__name__} is not registered; put @register_loss(name, source=...) above the class"
        )
    stated: dict[str, object] = {"loss": {"name": names[0], **loss.model_dump(mode="json")}}
    file = _source_file(loss)
    if file is not None and not LOSSES.is_builtin(names[0]):
        stated["plugins"] = [file]
    return stated


def _source_file(loss: Loss) -> str | None:
    """File that another process can import the loss from, or None for one made in a notebook."""
    try:
        file = inspect.getfile(type(loss))
    except (OSError, TypeError):
        return None
    return file if Path(file).is_file() and Path(file).suffix == ".py" else None
