"""The models of a run - base, SFT, aligned - each made once, in this process or in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from halobench.errors import ResultsError, TrainingError
from halobench.materials import Materials
from halobench.models.load import new_model, save_model
from halobench.origin import fetch
from halobench.recipe import Recipe
from halobench.results.record import RunRecord
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
        _train(Materials(recipe), "align", recipe.run_id, start, folder, report, reference)

    return Artifacts(home()).get("policies", recipe.run_id, build)


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
