"""One recipe to one record: the models, the scorers, the facts."""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
import torch

from halobench.data.report import lengths, num_words, summarise
from halobench.materials import Materials
from halobench.recipe import Recipe
from halobench.registry import SCORERS
from halobench.results.record import BudgetFacts, DataFacts, RunRecord, ScoreRecord, provenance
from halobench.results.store import RECORD, TIMING, Store
from halobench.scoring.base import Contender, ScoringResult
from halobench.scoring.leakage import leaked_counts
from halobench.stages import (
    Report,
    forget_policy,
    policy_folder,
    reference_folder,
    stages_of,
    start_folder,
)
from halobench.storage import atomic_file, canonical_json, digest, file_digest, write_text
from halobench.training import CURVES, SUMMARY

SAMPLES = "samples.parquet"


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
        forget_policy(recipe)
    policy = policy_folder(recipe, report)
    materials = Materials(recipe, report=report)
    contender = Contender(materials, policy, None, report)
    if recipe.evaluate == "aligned":
        contender.reference = reference_folder(recipe, report)
        contender.start = start_folder(recipe, report)
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
    store.add_prompts(materials.prompts, with_texts=materials.source.is_world)
    if store.has_run(recipe.run_id) and not force:
        for name, result in results.items():
            _write_scores(store.run_path(recipe.run_id), name, materials, result)
    else:
        store.add_run(recipe.run_id, lambda folder: _fill(folder, contender, summary, results, seconds))
    return str(status)


def _config_id(scorer: str, materials: Materials) -> str:
    return digest(SCORERS[scorer]().config(materials))[:8]


def _write_scores(folder: Path, scorer: str, materials: Materials, result: ScoringResult) -> None:
    """Write the per-prompt rows, then the aggregates that say they are whole."""
    config = SCORERS[scorer]().config(materials)
    file = folder / "scores" / f"{scorer}-{digest(config)[:8]}.parquet"
    with atomic_file(file) as temporary:
        result.rows.to_parquet(temporary, compression="zstd", compression_level=15, index=False)
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
    contender: Contender,
    summary: dict[str, Any],
    results: dict[str, ScoringResult],
    seconds: dict[str, float],
) -> None:
    """Write every file of a run, the record last."""
    materials, policy = contender.materials, contender.folder
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
        rounds=summary.get("rounds", ()),
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
        "sampling": vars(contender.written),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    (folder / TIMING).write_text(canonical_json(timing))
    (folder / RECORD).write_text(canonical_json(record.model_dump(mode="json")))


def _without_paths(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe with only the last part of every path: the rest tells about a machine."""
    resolved = recipe.model_dump(mode="json")
    places = [
        *((section, "path") for section in (resolved["data"], *(resolved["data"]["parts"] or ()))),
        (resolved["model"]["tokenizer"] or {}, "path"),
        ((resolved["data"]["online"] or {}).get("judge", {}), "path"),
    ]
    if recipe.model.revision is None:  # else it is the id of a model of the Hub
        places.append((resolved["model"], "path"))
    if recipe.reference_model is not None and recipe.reference_model.revision is None:
        places.append((resolved, "reference"))
    for section, key in places:
        if section.get(key) is not None:
            section[key] = PurePath(section[key]).name
    resolved["plugins"] = [PurePath(plugin).name for plugin in resolved["plugins"]]
    return resolved


def _data_facts(materials: Materials, summary: dict[str, Any]) -> DataFacts | None:
    if materials.recipe.evaluate == "base":
        return None
    fingerprint = materials.feedback.fingerprint
    counted = summarise(materials.feedback)
    words = lengths(materials.feedback, num_words)
    return DataFacts(
        sha256=fingerprint.sha256,
        num_prompts=fingerprint.num_prompts,
        num_pairs=fingerprint.num_pairs,
        num_desirable=fingerprint.num_desirable,
        num_undesirable=fingerprint.num_undesirable,
        drops=dict(fingerprint.drops),
        view=materials.loss.view().__name__ if summary else "",
        view_desirable=summary.get("desirable", 0),
        view_undesirable=summary.get("undesirable", 0),
        truncated=summary.get("truncated", {}),
        num_responses=counted.num_responses,
        num_contradictions=counted.num_contradictions,
        mean_words={side: round(found.mean, 2) for side, found in words.items()},
        leaked=leaked_counts(materials),
    )


def _budget_facts(recipe: Recipe, summary: dict[str, Any]) -> BudgetFacts | None:
    if not summary:
        return None
    spent = {key: summary[key] for key in ("steps", "completions", "tokens", "flops", "parameters")}
    budget = recipe.budget
    return BudgetFacts(match=budget.match, epochs=budget.epochs, multiple=budget.multiple, **spent)
