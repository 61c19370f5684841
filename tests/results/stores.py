"""Small stores that are valid in every respect, written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.results.store import RECORD, Store
from halobench.storage import canonical_json, digest, file_digest
from tests.leaderboard.synthetic import Run, make_recipe, make_record

PROMPTS = PromptSet(
    tuple(
        EvaluationPrompt(name, name, (Message("user", f"say {name}"),), ("good",), ("bad",))
        for name in ("p000", "p001", "p002")
    )
)
CONFIG = {"prompts": PROMPTS.sha256, "version": 1}
SCORES = f"oracle-{digest(CONFIG)[:8]}"
WINS = [1.0, 0.0, 0.5]


def write_store(root: Path, *runs: Run) -> Store:
    """Record runs of one suite with win rates of three prompts at T=1, its note, its prompts."""
    store = Store(root)
    runs = runs or (make_run("kto"), make_run("dpo"))
    store.add_prompts(PROMPTS, with_texts=True)
    store.add_suite("synthetic", [run.recipe for run in runs])
    for run in runs:
        store.add_run(run.recipe.run_id, lambda folder, run=run: fill(folder, run))
    return store


def make_run(loss: str = "kto", wins: Sequence[float] = WINS, **changes: Any) -> Run:
    """Make a run with given values of the three prompts."""
    return Run(make_recipe(loss, **changes), {("T=1", "winrate"): wins})


def fill(folder: Path, run: Run) -> None:
    """Write the files of a run."""
    wins = run.values["T=1", "winrate"]
    rows = pd.DataFrame(
        {
            "prompt_id": [row.prompt_id for row in PROMPTS.rows],
            "decode": "T=1",
            "rep": np.int16(0),
            "metric": "winrate",
            "value": np.float32(wins),
        }
    )
    score = {
        "scorer": "oracle",
        "task": "T=1",
        "metric": "winrate",
        "value": float(np.mean(wins)),
        "stderr": float(np.std(wins, ddof=1) / np.sqrt(3)),
        "num_samples": 3,
        "higher_is_better": True,
    }
    (folder / "scores").mkdir()
    rows.to_parquet(folder / "scores" / f"{SCORES}.parquet", index=False)
    (folder / RECORD).write_text(canonical_json(make_record(run).model_dump(mode="json")))
    seal(folder, scores=[score])


def seal(folder: Path, scores: Sequence[Mapping[str, Any]] | None = None) -> None:
    """Make the digests and aggregates of a run those of its files, as whoever forges one would."""
    table = folder / "scores" / f"{SCORES}.parquet"
    facts = table.with_suffix(".json")
    scores = json.loads(facts.read_text())["scores"] if scores is None else scores
    found = {
        "scorer": "oracle",
        "config": CONFIG,
        "scores": scores,
        "rows": len(pd.read_parquet(table)),
        "sha256": file_digest(table),
    }
    facts.write_text(json.dumps(found))

    def edit(record: dict[str, Any]) -> None:
        record["scores"] = list(scores)
        record["files"] = {f"scores/{path.name}": file_digest(path) for path in (table, facts)}

    change_json(folder / RECORD, edit)


def change_json(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place."""
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))


def change_rows(folder: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the per-prompt rows of a run, its digests with them."""
    table = folder / "scores" / f"{SCORES}.parquet"
    edit(pd.read_parquet(table)).to_parquet(table, index=False)
    seal(folder)
