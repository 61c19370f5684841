"""`verify`: a recorded run is run again from its record into a store of its own, and the two compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from halobench.compose import compose
from halobench.errors import HalobenchError, ResultsError, TrainingError
from halobench.grid import missing_tasks, run_tasks
from halobench.pool import Watcher
from halobench.recipe import Recipe
from halobench.results.journal import VERIFICATIONS, Verification, add_lines, today
from halobench.results.record import RunRecord, ScoreRecord
from halobench.results.store import Store
from halobench.stages import stages_of

_OF_THE_SUITE = ("content", "suite", "board")


@dataclass(frozen=True)
class Comparison:
    """What running again led to.

    Attributes:
        line: what is kept of it.
        differences: one line each.
        num_unpaired: scores that only one of the two has.
        same_files: files that came out with the same bytes, of how many that both have.
        reused: stages that were there from before, and not made again.
        otherwise: what differs in how it was run, and may differ in the last digits of every number.
    """

    line: Verification
    differences: list[str]
    num_unpaired: int
    same_files: tuple[int, int]
    reused: list[str]
    otherwise: list[str]


def verify(
    store: Store, run_id: str, overrides: Sequence[str], tolerance: float, watcher: Watcher
) -> Comparison:
    """Run a recorded run again, compare, and note the outcome in the store.

    Args:
        store: holds the record, which stays as it is.
        run_id: of the run.
        overrides: `key.path=value` each: paths, of which a record keeps the last part only, and what changes
            no result.
        tolerance: largest difference of a score that counts as the same.
        watcher: shows the progress.

    Raises:
        HalobenchError: the recipe of the record cannot be run here, or is another run today.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ResultsError(f"--tolerance {tolerance}: must be a number of at least 0")
    record = store.record(run_id)
    with TemporaryDirectory() as scratch:
        recipe = _recipe_of(record, overrides, Path(scratch))
        reused = [key.path.name for key in stages_of(recipe) if key.path.exists()]
        fresh = Store(Path(scratch) / "results")
        # in a worker, as it was recorded: in this process it rounds otherwise
        outcome = run_tasks(missing_tasks([recipe], fresh, force=True), fresh, jobs=1, watcher=watcher)
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.failed:
            raise TrainingError(*(f"{name}: {reason}" for name, reason in outcome.failed.items()))
        again = fresh.record(run_id)
    compared = compare(record, again, tolerance, reused)
    add_lines(store.root / VERIFICATIONS, [compared.line])
    return compared


def _recipe_of(record: RunRecord, overrides: Sequence[str], scratch: Path) -> Recipe:
    file = scratch / "recipe.yaml"
    stated = {key: value for key, value in record.recipe.items() if key not in _OF_THE_SUITE}
    if any(override.startswith("plugins=") for override in overrides):
        del stated["plugins"]  # a record knows their names only, and lists are joined
    file.write_text(yaml.safe_dump(stated, sort_keys=True), encoding="utf-8")
    try:
        recipes = compose(file, overrides).recipes
    except HalobenchError as error:
        problems = (problem.replace(str(file), "its record") for problem in error.problems)
        raise ResultsError(
            *problems,
            f"run {record.run_id!r}: cannot be run again so; give its paths as key=value, see --help",
        ) from None
    if [recipe.run_id for recipe in recipes] != [record.run_id]:
        now = ", ".join(recipe.run_id for recipe in recipes)
        raise ResultsError(
            f"run {record.run_id!r}: its recipe is another run here, {now}: the data, the model, a plug-in "
            "or the code differ, or an override changes results; give what it was made of"
        )
    return recipes[0]


def compare(record: RunRecord, again: RunRecord, tolerance: float, reused: list[str]) -> Comparison:
    """Compare two records of the same run."""
    differences = []
    if record.status != again.status:
        differences.append(f"status: {record.status} recorded, {again.status} now")
    if record.data is not None and again.data is not None and record.data.sha256 != again.data.sha256:
        differences.append("data: it was trained on other feedback than recorded")
    scores = [{_name(score): score for score in each.scores} for each in (record, again)]
    shared = sorted(scores[0].keys() & scores[1].keys())
    gaps = {name: abs(scores[0][name].value - scores[1][name].value) for name in shared}
    differing = [name for name in shared if gaps[name] > tolerance]
    differences += [
        f"{name}: {scores[0][name].value:.6g} recorded, {scores[1][name].value:.6g} now" for name in differing
    ]
    if not shared and record.scores:
        differences.append("scores: none of those recorded came out")
    files = record.files.keys() & again.files.keys()
    line = Verification(
        run_id=record.run_id,
        agrees=not differences,
        tolerance=tolerance,
        largest=max(gaps.values(), default=0.0),
        num_scores=len(shared),
        num_differing=len(differing),
        provenance=again.provenance,
        date=today(),
    )
    same = sum(record.files[name] == again.files[name] for name in files)
    num_unpaired = len(scores[0].keys() ^ scores[1].keys())
    otherwise = _circumstances(record, again)
    return Comparison(line, differences, num_unpaired, (same, len(files)), reused, otherwise)


def _circumstances(record: RunRecord, again: RunRecord) -> list[str]:
    """How the two were run, where it differs: none of it is part of a run's identity."""
    was, now = (
        {f"execution.{key}": value for key, value in each.recipe["execution"].items()}
        | {"accelerator": each.provenance.accelerator, "system": each.provenance.system}
        | {f"version of {name}": version for name, version in each.provenance.versions.items()}
        for each in (record, again)
    )
    return [
        f"{key}: {was[key]} recorded, {now[key]} now" for key in was if key in now and was[key] != now[key]
    ]


def _name(score: ScoreRecord) -> str:
    return f"{score.scorer} {score.task} {score.metric}"
