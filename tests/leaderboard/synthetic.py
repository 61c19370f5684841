"""Results that nobody trained: records of runs with given per-prompt values, written through the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from halobench.leaderboard.build import build_boards
from halobench.leaderboard.text import BuiltBoard
from halobench.recipe import Recipe
from halobench.results.record import BudgetFacts, DataFacts, Provenance, RunRecord, ScoreRecord
from halobench.results.store import RECORD, Store
from halobench.storage import canonical_json, file_digest

CONFIG_ID = "0123abcd"
OPTIM = {"lr": 1e-3}
ARCHITECTURE = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


class Run(NamedTuple):
    """A run to record.

    Attributes:
        recipe: of the run.
        values: (decode, metric) to values by prompt, or by sample and prompt.
        status: "completed" or "diverged".
        feedback: digest of what it was trained on.
        aggregates: (task, metric) to numbers of the whole run.
        held_out: accuracy of the implied reward on held-out labels, where it was scored.
        spent: what its alignment spent, where that matters.
    """

    recipe: Recipe
    values: Mapping[tuple[str, str], Any] = {}
    status: str = "completed"
    feedback: str = "feed"
    aggregates: Mapping[tuple[str, str], float] = {}
    held_out: float | None = None
    spent: Mapping[str, int] = {}


def make_recipe(loss: str | dict[str, Any] = "kto", **changes: Any) -> Recipe:
    """Make a recipe of the built-in world as `compose` would; dotted keys change its sections."""
    values: dict[str, Any] = {
        "suite": "synthetic",
        "data": {"source": "cafe", "num_pairs": 100, "max_length": 64, "max_prompt_length": 28},
        "model": {"architecture": dict(ARCHITECTURE)},
        "base": {"num_documents": 9, "steps": 2, "batch_documents": 3, "optim": dict(OPTIM)},
        "sft": {"batch_pairs": 8, "optim": dict(OPTIM)},
        "loss": {"name": loss} if isinstance(loss, str) else dict(loss),
        "optim": dict(OPTIM),
        "scoring": {"scorers": ["oracle"]},
        "content": {"source": "cafe-v1-w0"},
    }
    for key, value in changes.items():
        *sections, last = key.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value
    recipe = Recipe.model_validate(values)
    return recipe.model_copy(update={"label": recipe.label or recipe.default_label})


def row(
    loss: str | dict[str, Any], table: Any, *, seeds: Sequence[int] | None = None, **changes: Any
) -> list[Run]:
    """Make one run per seed from a (seeds, prompts) table of win rates at T=1, or a table per decode."""
    tables = table if isinstance(table, Mapping) else {"T=1": table}
    size = len(next(iter(tables.values())))
    return [
        Run(
            make_recipe(loss, **{"seed": seed, **changes}),
            {(decode, "winrate"): values[index] for decode, values in tables.items()},
        )
        for index, seed in enumerate(range(size) if seeds is None else seeds)
    ]


def write_results(root: Path, runs: Sequence[Run], *, missing: Sequence[Recipe] = (), **board: Any) -> Store:
    """Record runs of one suite, and its note of them and of `missing` ones; `board` is what it declares."""
    store = Store(root)
    declared = {"family": ("dpo", "kto"), **board}
    recipes = [run.recipe for run in runs]
    first = recipes[0].model_copy(update={"board": recipes[0].board.model_copy(update=declared)})
    store.add_suite(first.suite, [first, *recipes[1:], *missing])
    for run in runs:
        store.add_run(run.recipe.run_id, lambda folder, run=run: _fill(folder, run))
    return store


def read_board(store: Store) -> BuiltBoard:
    """Read the only board of a store."""
    [board] = build_boards(store)
    return board


def by_row(board: BuiltBoard) -> pd.DataFrame:
    """Rows of a board, by name."""
    return board.tables.rows.set_index("row")


def write_scores(
    folder: Path, run: Run, scorer: str = "oracle", config_id: str = CONFIG_ID
) -> list[ScoreRecord]:
    """Write the two score files of a run."""
    records = [
        (f"p{prompt:03}", decode, rep, metric, value)
        for (decode, metric), values in run.values.items()
        for rep, sample in enumerate(np.atleast_2d(values))
        for prompt, value in enumerate(sample)
    ]
    frame = pd.DataFrame(records, columns=["prompt_id", "decode", "rep", "metric", "value"])
    means = {(decode, metric): float(np.mean(values)) for (decode, metric), values in run.values.items()}
    scores = [
        _score(scorer, task, metric, value) for (task, metric), value in {**means, **run.aggregates}.items()
    ]
    file = folder / "scores" / f"{scorer}-{config_id}.parquet"
    file.parent.mkdir(exist_ok=True)
    frame.astype({"rep": "int16", "value": "float32"}).to_parquet(file, index=False)
    dumped = [score.model_dump() for score in scores]
    facts = {
        "scorer": scorer,
        "config": {},
        "scores": dumped,
        "rows": len(frame),
        "sha256": file_digest(file),
    }
    file.with_suffix(".json").write_text(canonical_json(facts))
    return scores


def _score(scorer: str, task: str, metric: str, value: float) -> ScoreRecord:
    return ScoreRecord(
        scorer=scorer,
        task=task,
        metric=metric,
        value=value,
        stderr=None,
        num_samples=1,
        higher_is_better=None,
    )


def make_record(
    run: Run, scores: Sequence[ScoreRecord] = (), files: Mapping[str, str] | None = None
) -> RunRecord:
    """Make the record of a run."""
    recipe = run.recipe
    counts = {"num_prompts": 9, "num_pairs": 9, "num_desirable": 9, "num_undesirable": 9}
    shown = {"view": "Binary", "view_desirable": 9, "view_undesirable": 9}
    spent = {"steps": 10, "completions": 640, "tokens": 1234567, "flops": 8, "parameters": 5, **run.spent}
    budget = {"match": "pairs", "epochs": 1.0, "multiple": recipe.budget.multiple}
    return RunRecord(
        run_id=recipe.run_id,
        setting_id=recipe.setting_id,
        method_id=recipe.method_id,
        kind="tuning" if recipe.split == "dev" else "run",
        status=run.status,
        evaluate=recipe.evaluate,
        seed=recipe.seed,
        identity=recipe.identity,
        recipe=recipe.model_dump(mode="json"),
        data=DataFacts(sha256=run.feedback, **counts, **shown, drops={}, truncated={}),
        budget=BudgetFacts(**budget, **spent) if recipe.evaluate == "aligned" else None,
        provenance=Provenance(versions={}, commit=None, dirty=None, system="none", accelerator="cpu"),
        scores=tuple(scores),
        files=dict(files or {}),
    )


def _fill(folder: Path, run: Run) -> None:
    scores = write_scores(folder, run) if run.values else []
    scores += [] if run.held_out is None else [_score("implied_reward", "pairs", "accuracy", run.held_out)]
    files = {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*.*"))}
    record = make_record(run, scores, files)
    (folder / RECORD).write_text(canonical_json(record.model_dump(mode="json")))
