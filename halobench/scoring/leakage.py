"""What of a recipe's evaluations is trained on: held-out prompts and answers, the prompts of its scorers."""

from __future__ import annotations

import json
from pathlib import Path

from halobench.data.leakage import Leakage, Text, as_completion, as_prompt, find_leaks
from halobench.errors import DataError
from halobench.feedback import EvaluationPrompt
from halobench.materials import Materials
from halobench.registry import SCORERS
from halobench.storage import canonical_json, digest


def leakage(materials: Materials) -> dict[str, Leakage]:
    """Look for the evaluations of a recipe among its base selection.

    Returns:
        What leaks of "dev prompts", "dev answers", "test prompts" and "test answers", and of the prompts of
        each scorer, those with the same prompts under one name.
    """
    responses = materials.feedback.responses.values()
    held_out = {split: _rows(materials, split) for split in ("dev", "test")}
    prompts = {
        f"{split} prompts": tuple(as_prompt(row.prompt) for row in rows) for split, rows in held_out.items()
    }
    asked: dict[tuple[Text, ...], list[str]] = {}
    for name in materials.recipe.scoring.scorers:
        texts = tuple(as_prompt(prompt) for prompt in SCORERS[name]().prompts(materials))
        asked.setdefault(texts, []).append(name)
    prompts |= {f"prompts of {', '.join(names)}": texts for texts, names in asked.items()}
    answers = {
        f"{split} answers": [as_completion(text) for row in rows for text in (*row.chosen, *row.rejected)]
        for split, rows in held_out.items()
    }
    trained = {row.prompt_id: row.prompt for row in responses}
    return {
        **find_leaks(map(as_prompt, trained.values()), prompts),
        **find_leaks((as_completion(row.completion) for row in responses), answers),
    }


def leaked_counts(materials: Materials) -> dict[str, int]:
    """How many texts of each evaluation leak, where any do; counted once for all runs of a selection."""
    recipe = materials.recipe
    key = [
        materials.feedback.fingerprint.sha256,
        materials.source.content_id,
        materials.prompts.sha256,
        recipe.scoring.scorers,
    ]

    def build(folder: Path) -> None:
        found = {name: each.num_exact + each.num_overlapping for name, each in leakage(materials).items()}
        (folder / "counts.json").write_text(canonical_json({n: count for n, count in found.items() if count}))

    file = materials.artifacts.get("leakage", digest(key)[:16], build) / "counts.json"
    counts: dict[str, int] = json.loads(file.read_text())
    return counts


def _rows(materials: Materials, split: str) -> tuple[EvaluationPrompt, ...]:
    try:
        return materials.source.prompt_set("dev" if split == "dev" else "test").rows
    except DataError:  # a split without a prompt to compare answers to is refused only where it is scored
        return ()
