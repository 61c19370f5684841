"""Results made by somebody who wants the reader's browser, spreadsheet or terminal to do what they say."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd

from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.results.journal import retract
from halobench.results.store import RECORD, Store
from halobench.storage import canonical_json, file_digest
from tests.leaderboard.synthetic import Run, make_recipe, make_record, write_scores

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
NUM_PUBLISHED = 8  # rows of each published table
TEXTS = {
    "script": "<script>alert(1)</script>",
    "end": "</script><script>alert(2)</script>",
    "title": "</title></style></textarea><script>alert(3)</script>",
    "picture": "\"><img src=x onerror='alert(4)'>",
    "attribute": "' autofocus onfocus='alert(5)' x='",
    "drawing": "<svg onload=alert(6)>",
    "comment": "--><!-- ]]>",
    "link": "javascript:alert(7)",
    "markdown": "[look](javascript:alert(8)) ![](http://127.0.0.1:9/x)",
    "table": "a | b\\| `c\n| d |\r\n\n# e",
    "template": "{{ 7 * 7 }} {% for %} %s {0} ${x}",
    "mathematics": "$\\frac{1$ \\undefined",
    "override": "a\u202eb\u202dc\u2066d",
    "separators": "a\u2028b\u2029c\x85d",
    "controls": "a\x00b\x01c\x1b[31md\x7fe\ufffff",
    "emoji": "\U0001f469\u200d\U0001f52c \U0001f3f3\ufe0f\u200d\U0001f308 \u0645\u0631\u062d\u0628\u0627",
    "megabyte": "long " + "x" * 2**20,
    "equals": "=cmd|' /C calc'!A0",
    "plus": "+1+cmd|' /C calc'!A0",
    "minus": "-2+3",
    "at": "@SUM(1+1)",
    "tab": "\t=1+1",
    "return": "\r=1+1",
    "path": "../../../up",
    "address": "a#b?c%2e&amp;d",
}
ALL = " ".join(text for name, text in TEXTS.items() if name != "megabyte")
PROMPTS = PromptSet(
    tuple(
        EvaluationPrompt(f"p{k:03}", f"p{k:03}", (Message("user", text),), (text,), (text,))
        for k, text in enumerate(TEXTS.values())
    )
)


def write_hostile(root: Path) -> Store:
    """Record runs whose every free text is hostile: names, prompts, answers, facts, reasons."""
    store = Store(root)
    store.add_prompts(PROMPTS, with_texts=True)
    labels = ["dpo", "kto", *TEXTS.values(), ALL]
    compared = {"dpo", *(TEXTS[name] for name in ("script", "table", "override", "equals", "megabyte")), ALL}
    runs = [
        _run("dpo" if label == "dpo" else "kto", seed, label, number)
        for number, label in enumerate(labels)
        for seed in range(3 if label in compared else 1)
    ]
    for run in runs:
        store.add_run(run.recipe.run_id, lambda folder, run=run: _fill(folder, run))
    recipes = [run.recipe for run in runs]
    declared = recipes[0].board.model_copy(update={"family": tuple(labels)})
    first = recipes[0].model_copy(update={"board": declared})
    for number, suite in enumerate(("long", "short")):
        store.add_suite(suite, [first, *recipes[1 : 4 if number else None]])
        [note] = (root / "suites" / suite).iterdir()
        document = json.loads(note.read_text())
        document["suite"] = TEXTS["megabyte"] if number else ALL
        note.write_text(json.dumps(document))
    retract(store, recipes[-1].run_id, " ".join(ALL.replace("\x85", "").split()))
    _write_published(root)
    return store


def _run(loss: str, seed: int, label: str, number: int) -> Run:
    recipe = make_recipe({"name": loss, "beta": 0.1 + number / 100}, label=label, seed=seed)
    stream = np.random.default_rng(2 * number + seed)
    return Run(recipe, {("T=1", "winrate"): stream.choice([0.0, 0.5, 1.0], len(TEXTS))})


def _fill(folder: Path, run: Run) -> None:
    scores = write_scores(folder, run)
    for facts in (folder / "scores").glob("*.json"):
        document = json.loads(facts.read_text())
        facts.write_text(canonical_json({**document, "config": {"prompts": PROMPTS.sha256}}))
    rows = [(row.prompt_id, "T=1", 0, row.chosen[0] + run.recipe.label[:9]) for row in PROMPTS.rows]
    samples = pd.DataFrame(rows, columns=["prompt_id", "decode", "rep", "text"])
    samples.to_parquet(folder / "samples.parquet", index=False)
    files = {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*.*"))}
    document = make_record(run, scores, files).model_dump(mode="json")
    document["provenance"] |= {"system": ALL, "accelerator": ALL, "commit": ALL, "versions": {ALL: ALL}}
    document["recipe"]["data"]["source"] = ALL
    (folder / RECORD).write_text(canonical_json(document))


def _write_published(root: Path) -> None:
    """The published tables, with hostile cells in the first rows."""
    for file, columns in (("archangel", ("name", "family", "source")), ("simpo", ("name", "model", "note"))):
        with (PUBLISHED / f"{file}.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))[:NUM_PUBLISHED]
        texts = [TEXTS[name] for name in ("script", "equals", "controls", "mathematics", "table", "at")]
        for row, text in zip(rows, texts, strict=False):
            row |= dict.fromkeys(columns, text)
        (root / "published").mkdir(exist_ok=True)
        with (root / "published" / f"{file}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
