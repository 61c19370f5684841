"""The models of a run - base, SFT, aligned - each made once, in this process or in several."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from halobench.errors import ResultsError, TrainingError
from halobench.materials import Materials, Round
from halobench.models.load import new_model, save_model
from halobench.origin import fetch
from halobench.recipe import Recipe
from halobench.results.record import RunRecord
from halobench.rounds import FEEDBACK, join_rounds, sample_feedback
from halobench.sections import Online
from halobench.storage import Artifacts, canonical_json, digest, home
from halobench.training import SUMMARY, Stage

Report = Callable[[str, int, int], None]


class StageKey(NamedTuple):
    """A stage that runs share.

    Attributes:
        stage: "base" or "sft".
        name: of its artifact.
    """

    stage: Literal["base", "sft"]
    name: str

    @property
    def path(self) -> Path:
        """Folder of the stage's model, made or not."""
        return Artifacts(home()).path("stages", f"{self.stage}-{self.name}")


def stages_of(recipe: Recipe) -> list[StageKey]:
    """The shared stages that a run needs, the earlier first."""
    keys = []
    if recipe.model.path is None:
        keys.append(StageKey("base", digest(recipe.base_identity)[:16]))
    if recipe.sft is not None and recipe.evaluate != "base":
        keys.append(StageKey("sft", digest(recipe.reference_identity)[:16]))
    return keys


def policy_path(run_id: str) -> Path:
    """Folder of an aligned policy, made or not."""
    return Artifacts(home()).path("policies", run_id)


def kept_policy(record: RunRecord) -> Path:
    """Folder of a recorded run's aligned policy.

    Raises:
        ResultsError: the run has none, or it is not there any more.
    """
    if record.evaluate != "aligned":
        raise ResultsError(
            f"run {record.run_id!r} evaluated the {record.evaluate} model; name an aligned run"
        )
    if record.status == "diverged":
        raise ResultsError(f"run {record.run_id!r} diverged ({record.reason}), so it has no policy")
    folder = policy_path(record.run_id)
    if not folder.is_dir():
        raise gone(record)
    return folder


def gone(record: RunRecord) -> ResultsError:
    """The error of a run whose models were removed."""
    return ResultsError(
        f"run {record.run_id}: its models are not in {policy_path(record.run_id).parent.parent}; "
        "run its recipe again with --force to make them"
    )


def make_stage(recipe: Recipe, key: StageKey, report: Report) -> Path:
    """Make a shared stage unless it is there; return its model folder.

    Raises:
        TrainingError: its loss stopped being a number.
    """

    def build(folder: Path) -> None:
        materials = Materials(recipe)
        if key.stage == "base" and recipe.base is None:
            model = new_model(recipe.model, materials.tokenizer, seed=recipe.base_seed)
            save_model(folder, model, materials.tokenizer)
            return
        start = None if key.stage == "base" else base_folder(recipe, report)
        _train(materials, key.stage, key.path.name, start, folder, report)
        summary = json.loads((folder / SUMMARY).read_text())
        if summary["status"] != "completed":
            raise TrainingError(f"stage {key.stage}: {summary['reason']}; lower its learning rate")

    return Artifacts(home()).get("stages", key.path.name, build)


def base_folder(recipe: Recipe, report: Report) -> Path:
    """Folder of the base model."""
    if recipe.model.path is not None:
        return fetch(recipe.model)
    return make_stage(recipe, stages_of(recipe)[0], report)


def start_folder(recipe: Recipe, report: Report) -> Path:
    """Folder of the model that alignment starts from: the SFT model, or the base without an SFT stage."""
    if recipe.sft is None:
        return base_folder(recipe, report)
    return make_stage(recipe, stages_of(recipe)[-1], report)


def reference_folder(recipe: Recipe, report: Report) -> Path:
    """Folder of the model that the policy is measured against."""
    if recipe.reference_model is not None:
        return fetch(recipe.reference_model)
    return base_folder(recipe, report) if recipe.reference == "base" else start_folder(recipe, report)


def policy_folder(recipe: Recipe, report: Report) -> Path:
    """Folder of the model that the run is about, trained if need be."""
    if recipe.evaluate == "base":
        return base_folder(recipe, report)
    start = start_folder(recipe, report)
    if recipe.evaluate == "reference":
        return start
    reference = reference_folder(recipe, report)

    def build(folder: Path) -> None:
        if recipe.data.online is None:
            _train(Materials(recipe), "align", recipe.run_id, start, folder, report, reference)
        else:
            _train_rounds(recipe, recipe.data.online, start, reference, folder, report)

    policy = Artifacts(home()).get("policies", recipe.run_id, build)
    for path in _round_paths(recipe, "rounds"):  # only the last round's policy is needed any more
        shutil.rmtree(path, ignore_errors=True)
    return policy


def forget_policy(recipe: Recipe) -> None:
    """Remove an aligned policy and what was made on the way to it, so that all of it is made again."""
    for path in (
        policy_path(recipe.run_id),
        *_round_paths(recipe, "feedback"),
        *_round_paths(recipe, "rounds"),
    ):
        shutil.rmtree(path, ignore_errors=True)


def _round_paths(recipe: Recipe, kind: Literal["feedback", "rounds"]) -> list[Path]:
    """Folders of the feedback, or of the policy, of each round of online alignment, made or not."""
    online = recipe.data.online
    numbers = range(1, online.rounds + 1) if online is not None else ()
    return [Artifacts(home()).path(kind, f"{recipe.run_id}-{number}") for number in numbers]


def _train_rounds(
    recipe: Recipe, online: Online, start: Path, reference: Path, folder: Path, report: Report
) -> None:
    """Sample, judge and train round by round; what a round has made is kept if a later one is interrupted."""
    artifacts = Artifacts(home())
    parts: list[tuple[Path, Path]] = []
    for number in range(1, online.rounds + 1):
        name = f"{recipe.run_id}-{number}"

        def told(phase: str, done: int, total: int, number: int = number) -> None:
            report(f"{phase} {number}", done, total)

        told_of_sampling = partial(told, "sample")
        sample = partial(sample_feedback, Materials(recipe), online, number, start, report=told_of_sampling)
        feedback = artifacts.get("feedback", name, sample)
        materials = Materials(recipe, Round(number, feedback / FEEDBACK))
        train = partial(_train, materials, "align", name, start, report=told, reference=reference)
        if number < online.rounds:
            start = artifacts.get("rounds", name, train)
        else:
            train(folder)
            start = folder
        parts.append((feedback, start))
        if json.loads((start / SUMMARY).read_text())["status"] != "completed":
            break
    join_rounds(parts, folder)


def _train(
    materials: Materials,
    stage: Stage,
    name: str,
    start: Path | None,
    folder: Path,
    report: Report,
    reference: Path | None = None,
) -> None:
    """Train a stage here, or in as many processes as the recipe has devices."""
    devices = materials.recipe.execution.devices
    if devices == 1:
        from halobench.training.stage import train_stage  # Lightning takes seconds to import

        train_stage(materials, stage, name, start, folder, report, reference=reference)
        return
    with TemporaryDirectory(dir=folder.parent, prefix=f".tmp-{os.getpid()}-job-") as scratch:
        job = Path(scratch) / "job.json"
        job.write_text(
            canonical_json(
                {
                    "recipe": materials.recipe.model_dump(mode="json"),
                    "stage": stage,
                    "round": materials.round and [materials.round.number, str(materials.round.feedback)],
                    "name": name,
                    "start": None if start is None else str(start),
                    "reference": None if reference is None else str(reference),
                    "output": str(folder),
                }
            )
        )
        command = ["torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
        # stdin is the pipe of life: the ranks end when this process does
        with subprocess.Popen(
            [sys.executable, "-m", *command, "-m", "halobench.worker", "--train", str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as ranks:
            failed = ""
            for line in ranks.stdout or ():
                if line.startswith('{"progress"'):
                    report(*json.loads(line)["progress"])
                elif line.startswith('{"failed"'):
                    failed = failed or json.loads(line)["failed"]
            if ranks.wait() != 0:
                reason = failed or f"exit code {ranks.returncode}"
                raise TrainingError(f"training in {devices} processes failed: {reason}")
