"""A results folder of many runs that nobody trained, to measure and test how the leaderboard scales.

`python -m tests.leaderboard.many DIR --settings 200` writes 200 settings of 10 losses with 5 seeds: 10,000
runs, each with the columns, samples and prompts of a run of the quickstart suite.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from halobench.recipe import Recipe
from halobench.results.record import ScoreRecord
from halobench.results.store import RECORD, Store
from halobench.storage import canonical_json, file_digest
from tests.leaderboard.synthetic import CONFIG_ID, Run, make_recipe, make_record

# label -> loss: the six built-in ones, and four more settings of two of them
LOSSES = {name: {"name": name} for name in ("csft", "dpo", "kto", "offline_ppo", "sft", "slic")} | {
    f"{name}-{beta}": {"name": name, "beta": beta} for name in ("dpo", "kto") for beta in (0.2, 0.5)
}
NUM_SEEDS = 5
NUM_PROMPTS = 512
SAMPLES = 4
_TEXT = ("brevity", "collapsed", "ended", "entropy", "form", "length", "manners", "task", "tie", "truth")
_RATES = ("winrate", "winrate_reference")
# scorer -> decode -> samples and metrics, as the quickstart suite records them
COLUMNS = {
    "oracle": {
        "T=1": (SAMPLES, (*_TEXT, "utility", *_RATES)),
        "T*": (1, (*_TEXT, "utility", *_RATES)),
        "greedy": (1, (*_TEXT, "utility", *_RATES)),
        "sft@T": (SAMPLES, ("winrate",)),
    },
    "implied_reward": {
        "-": (1, ("accuracy", "accuracy_gold", "chosen_drift", "longer", "margin", "rejected_drift"))
    },
}


def recipes_of(setting: int) -> list[Recipe]:
    """The points of one suite, which no other suite shares."""
    changes = {"suite": f"many/{setting:03}", "data.num_pairs": 100 + setting, "board.family": tuple(LOSSES)}
    return [
        make_recipe(loss, seed=seed, label=label, **changes)
        for label, loss in LOSSES.items()
        for seed in range(NUM_SEEDS)
    ]


def write_setting(root: Path, setting: int) -> None:
    """Record every run of one suite, and its note of them."""
    recipes = recipes_of(setting)
    store = Store(root)
    store.add_suite(recipes[0].suite, recipes)
    for index, recipe in enumerate(recipes):
        stream = np.random.default_rng([setting, index])
        folder = store.run_path(recipe.run_id)
        (folder / "scores").mkdir(parents=True)
        level = 0.3 + 0.01 * list(LOSSES).index(recipe.label) + stream.normal(0, 0.01)
        scores = [score for scorer in COLUMNS for score in _write_scores(folder, scorer, level, stream)]
        timing = {"align": {"wall": 10.0 + index, "cpu": 9.0}, "scoring": {"oracle": 2.0}}
        (folder / "timing.json").write_text(canonical_json(timing))
        files = {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*.*"))}
        record = make_record(Run(recipe, feedback=f"seed-{recipe.seed}"), scores, files)
        (folder / RECORD).write_text(canonical_json(record.model_dump(mode="json")))


def _write_scores(
    folder: Path, scorer: str, level: float, stream: np.random.Generator
) -> Iterator[ScoreRecord]:
    names = np.array([f"{prompt:016x}" for prompt in range(NUM_PROMPTS)])
    parts: dict[str, list[np.ndarray]] = {
        key: [] for key in ("prompt_id", "decode", "rep", "metric", "value")
    }
    scores = []
    for decode, (samples, metrics) in COLUMNS[scorer].items():
        for metric in metrics:
            size = samples * NUM_PROMPTS
            if metric in _RATES:
                values = (stream.random(size) < level).astype("float32")
            else:
                values = stream.integers(-8, 9, size).astype("float32") / 8
            parts["prompt_id"].append(np.tile(names, samples))
            parts["decode"].append(np.full(size, decode))
            parts["rep"].append(np.repeat(np.arange(samples, dtype="int16"), NUM_PROMPTS))
            parts["metric"].append(np.full(size, metric))
            parts["value"].append(values)
            scores.append((decode, metric, float(values.mean(dtype=float)), float(values.std() / size**0.5)))
    file = folder / "scores" / f"{scorer}-{CONFIG_ID}.parquet"
    table = pa.table({key: np.concatenate(columns) for key, columns in parts.items()})
    pq.write_table(table, file, compression="zstd")
    records = [
        ScoreRecord(
            scorer=scorer,
            task=decode,
            metric=metric,
            value=value,
            stderr=stderr,
            num_samples=NUM_PROMPTS,
            higher_is_better=None,
        )
        for decode, metric, value, stderr in scores
    ]
    facts = {
        "scorer": scorer,
        "config": {},
        "scores": [record.model_dump() for record in records],
        "rows": table.num_rows,
        "sha256": file_digest(file),
    }
    file.with_suffix(".json").write_text(canonical_json(facts))
    yield from records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--settings", type=int, default=200)
    arguments = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        list(pool.map(write_setting, repeat(arguments.root), range(arguments.settings)))
