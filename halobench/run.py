"""One recipe to one record: the shared stages, the alignment, the scorers, the facts."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch

from halobench.errors import TrainingError
from halobench.materials import Materials
from halobench.models.load import new_model, save_model
from halobench.recipe import Recipe
from halobench.registry import SCORERS
from halobench.results.record import BudgetFacts, DataFacts, RunRecord, ScoreRecord, provenance
from halobench.results.store import RECORD, TIMING, Store
from halobench.scoring.base import Contender, ScoringResult
from halobench.storage import Artifacts, atomic_file, canonical_json, digest, file_digest, home, write_text
from halobench.training.data import alignment_plan, alignment_view
from halobench.training.stage import CURVES, SUMMARY, Stage, train_stage

Report = Callable[[str, int, int], None]
SAMPLES = "samples.parquet"
_ESTIMATED_ROWS = 200


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


def is_done(recipe: Recipe, store: Store) -> bool:
    """Whether the run is recorded with every scorer that the recipe asks for."""
    if not store.has_run(recipe.run_id):
        return False
    record = store.record(recipe.run_id)
    if record.status != "completed":
        return True
    materials = Materials(recipe)
    return all(
        store.has_scores(recipe.run_id, name, _config_id(name, materials)) for name in recipe.scoring.scorers
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
        return Path(recipe.model.path)
    return make_stage(recipe, stages_of(recipe)[0], report)


def reference_folder(recipe: Recipe, report: Report) -> Path:
    """Folder of the reference: the SFT model, or the base where there is no SFT stage."""
    if recipe.sft is None:
        return base_folder(recipe, report)
    return make_stage(recipe, stages_of(recipe)[-1], report)


def _policy_folder(recipe: Recipe, report: Report) -> Path:
    """Folder of the model that the run is about, trained if need be."""
    if recipe.evaluate == "base":
        return base_folder(recipe, report)
    reference = reference_folder(recipe, report)
    if recipe.evaluate == "reference":
        return reference

    def build(folder: Path) -> None:
        _train(Materials(recipe), "align", recipe.run_id, reference, folder, report)

    return Artifacts(home()).get("policies", recipe.run_id, build)


def _train(
    materials: Materials, stage: Stage, name: str, start: Path | None, folder: Path, report: Report
) -> None:
    """Train a stage here, or in as many processes as the recipe has devices."""
    devices = materials.recipe.execution.devices
    if devices == 1:
        train_stage(materials, stage, name, start, folder, report)
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
            for line in ranks.stdout or ():
                if line.startswith('{"progress"'):
                    report(*json.loads(line)["progress"])
            if ranks.wait() != 0:
                raise TrainingError(
                    f"training in {devices} processes ended with exit code {ranks.returncode}"
                )


def estimate_tokens(recipe: Recipe) -> float:
    """Tokens that the alignment of a run will put through the model, by the lengths of a few completions."""
    if recipe.evaluate != "aligned":
        return 0.0
    materials = Materials(recipe)
    encoder = materials.encoder(materials.tokenizer)
    responses = list(materials.feedback.responses.values())
    lengths = []
    for row in responses[:_ESTIMATED_ROWS]:
        prompt = encoder.prompt(row.prompt)
        lengths.append(len(prompt) + len(encoder.completion(row.completion, len(prompt))))
    view = alignment_view(materials)
    completions = sum(len(view.units[unit]) for step in alignment_plan(materials, view) for unit in step)
    passes = 2 if materials.loss.uses_z0 else 1
    return passes * completions * sum(lengths) / len(lengths)


def execute(recipe: Recipe, store: Store, report: Report, *, force: bool = False) -> str:
    """Do what is missing of a run and record it; return its status.

    Args:
        recipe: the run.
        store: where it is recorded.
        report: told phase, done and total.
        force: align and score again what is recorded; it must come out the same.

    Raises:
        HalobenchError: a stage cannot be trained, or the run came out differently than recorded.
    """
    if force and recipe.evaluate == "aligned":
        shutil.rmtree(policy_path(recipe.run_id), ignore_errors=True)
    policy = _policy_folder(recipe, report)
    reference = reference_folder(recipe, report) if recipe.evaluate == "aligned" else None
    materials = Materials(recipe)
    contender = Contender(materials, policy, reference, report)
    summary = json.loads((policy / SUMMARY).read_text()) if recipe.evaluate == "aligned" else {}
    status = summary.get("status", "completed")
    results: dict[str, ScoringResult] = {}
    seconds: dict[str, float] = {}
    if status == "completed":
        for name in recipe.scoring.scorers:
            if force or not store.has_scores(recipe.run_id, name, _config_id(name, materials)):
                began = time.perf_counter()
                results[name] = SCORERS[name]().score(contender)
                seconds[name] = time.perf_counter() - began
    store.add_prompts(materials.prompts)
    if store.has_run(recipe.run_id) and not force:
        for name, result in results.items():
            _write_scores(store.run_path(recipe.run_id), name, materials, result)
    else:
        store.add_run(
            recipe.run_id, lambda folder: _fill(folder, materials, policy, summary, results, seconds)
        )
    return str(status)


def _config_id(scorer: str, materials: Materials) -> str:
    return digest(SCORERS[scorer]().config(materials))[:8]


def _write_scores(folder: Path, scorer: str, materials: Materials, result: ScoringResult) -> None:
    """Write the per-prompt rows, then the aggregates that say they are whole."""
    config = SCORERS[scorer]().config(materials)
    file = folder / "scores" / f"{scorer}-{digest(config)[:8]}.parquet"
    with atomic_file(file) as temporary:
        result.rows.to_parquet(temporary, compression="zstd", index=False)
    facts = {
        "scorer": scorer,
        "config": config,
        "scores": [record.model_dump() for record in _score_records(scorer, result)],
        "rows": len(result.rows),
        "sha256": file_digest(file),
    }
    write_text(file.with_suffix(".json"), canonical_json(facts))


def _score_records(scorer: str, result: ScoringResult) -> list[ScoreRecord]:
    return [ScoreRecord(scorer=scorer, **score._asdict()) for score in result.scores]


def _fill(
    folder: Path,
    materials: Materials,
    policy: Path,
    summary: dict[str, Any],
    results: dict[str, ScoringResult],
    seconds: dict[str, float],
) -> None:
    """Write every file of a run, the record last."""
    recipe = materials.recipe
    for name, result in results.items():
        _write_scores(folder, name, materials, result)
        if result.samples is not None:
            result.samples.to_parquet(folder / SAMPLES, compression="zstd", index=False)
    if (policy / CURVES).is_file() and summary:
        curves = pd.read_parquet(policy / CURVES)
        curves.to_parquet(folder / CURVES, compression="zstd", index=False)
    files = {
        str(path.relative_to(folder)): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    record = RunRecord(
        run_id=recipe.run_id,
        setting_id=recipe.setting_id,
        method_id=recipe.method_id,
        kind="tuning" if recipe.split == "dev" else "run",
        status=summary.get("status", "completed"),
        reason=summary.get("reason"),
        evaluate=recipe.evaluate,
        seed=recipe.seed,
        identity=recipe.identity,
        recipe=_without_paths(recipe),
        data=_data_facts(materials, summary),
        budget=_budget_facts(recipe, summary),
        provenance=provenance(torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"),
        scores=tuple(score for name in results for score in _score_records(name, results[name])),
        files=files,
    )
    timing = {
        "align": summary.get("seconds"),
        "shared": {
            key.stage: json.loads((key.path / SUMMARY).read_text())["seconds"]
            for key in stages_of(recipe)
            if (key.path / SUMMARY).is_file()
        },
        "scoring": seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    (folder / TIMING).write_text(canonical_json(timing))
    (folder / RECORD).write_text(canonical_json(record.model_dump(mode="json")))


def _without_paths(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe with only the last part of every path: the rest tells about a machine."""
    resolved = recipe.model_dump(mode="json")
    places = [
        (resolved["data"], "path"),
        (resolved["model"], "path"),
        (resolved["model"]["tokenizer"] or {}, "path"),
    ]
    for section, key in places:
        if section.get(key) is not None:
            section[key] = PurePath(section[key]).name
    resolved["plugins"] = [PurePath(plugin).name for plugin in resolved["plugins"]]
    return resolved


def _data_facts(materials: Materials, summary: dict[str, Any]) -> DataFacts | None:
    if materials.recipe.evaluate == "base":
        return None
    fingerprint = materials.feedback.fingerprint
    counts: Counter[bool] = Counter()
    view = ""
    if summary:
        shown = alignment_view(materials)
        view = shown.kind
        counts.update(example.desirable for example in shown.examples)
    return DataFacts(
        sha256=fingerprint.sha256,
        num_prompts=fingerprint.num_prompts,
        num_pairs=fingerprint.num_pairs,
        num_desirable=fingerprint.num_desirable,
        num_undesirable=fingerprint.num_undesirable,
        drops=dict(fingerprint.drops),
        view=view,
        view_desirable=counts[True],
        view_undesirable=counts[False],
        truncated=summary.get("truncated", {}),
    )


def _budget_facts(recipe: Recipe, summary: dict[str, Any]) -> BudgetFacts | None:
    if not summary:
        return None
    spent = {key: summary[key] for key in ("steps", "completions", "tokens", "flops", "parameters")}
    budget = recipe.budget
    return BudgetFacts(match=budget.match, epochs=budget.epochs, multiple=budget.multiple, **spent)
