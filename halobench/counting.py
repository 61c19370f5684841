"""How much a run puts through its model, counted on the data or from published sizes."""

from __future__ import annotations

import math
from typing import NamedTuple

from halobench.materials import Materials
from halobench.published.sizes import UNFETCHED, sizes_of
from halobench.recipe import Recipe
from halobench.sections import Data
from halobench.training.data import alignment_plan, alignment_view

SAMPLERS = ("oracle", "alpaca_eval")
_ESTIMATED_ROWS = 200
# of GPT-NeoX's tokenizer on HH-RLHF, OpenAssistant, UltraFeedback and the KTO mix: 3.7, 4.3, 4.1, 4.2
_CHARACTERS_PER_TOKEN = 4.1


class Counts(NamedTuple):
    """Sizes of a run's alignment, and of what its stages share.

    Attributes:
        steps: optimizer steps.
        units: that all steps together hold.
        completions: in these.
        rows: distinct completions of the view.
        prompts: distinct ones that these answer, once for each unit.
        demonstrations: of the SFT stage, in one epoch.
        test: prompts that are scored.
        dev: prompts that choose a temperature.
        pairs: of the base selection.
        prompt: mean tokens of a prompt.
        completion: mean tokens of a completion.
        document: mean tokens of a world's document.
    """

    steps: int
    units: int
    completions: int
    rows: int
    prompts: int
    demonstrations: int
    test: int
    dev: int
    pairs: int
    prompt: float
    completion: float
    document: float


def count(recipe: Recipe) -> Counts:
    """Count on the data, or by published sizes where they cannot be fetched."""
    if recipe.content["source"].startswith(UNFETCHED):
        return _published_counts(recipe)
    return _exact_counts(recipe)


def _exact_counts(recipe: Recipe) -> Counts:
    """Count on the data; lengths are those of the first rows."""
    materials = Materials(recipe)
    prompt, completion = _lengths(materials)
    document = 0.0
    if recipe.base is not None:
        texts = materials.world.documents(
            min(_ESTIMATED_ROWS, recipe.base.num_documents), seed=recipe.base_seed
        )
        encoder = materials.encoder(materials.tokenizer)
        encoded = encoder.documents([text.text for text in texts])
        document = sum(len(begin) + len(rest) for begin, rest in encoded) / len(texts)
    steps = units = completions = rows = prompts = 0
    if recipe.evaluate == "aligned":
        view = alignment_view(materials)
        plan = alignment_plan(materials, view)
        sizes = {number: len(unit) for number, unit in view.units.items()}
        steps = len(plan)
        units = sum(sizes[unit] > 0 for step in plan for unit in step)
        completions = sum(sizes[unit] for step in plan for unit in step)
        rows = len({example.response.response_id for example in view.examples})
        prompts = sum(size > 0 for size in sizes.values())
    scored = len(materials.prompts.rows)
    samples = set(SAMPLERS) & set(recipe.scoring.scorers)
    chosen = {label.response_id for label in materials.feedback.labels if label.desirable}
    return Counts(
        steps,
        units,
        completions,
        rows,
        prompts,
        len(chosen),
        scored,
        len(materials.dev_prompts.rows) if samples else 0,
        len(materials.feedback.pairs),
        prompt,
        completion,
        document,
    )


def _lengths(materials: Materials) -> tuple[float, float]:
    """Mean tokens of prompt and completion; by the characters where the tokenizer is not here."""
    rows = list(materials.feedback.responses.values())[:_ESTIMATED_ROWS]
    data = materials.recipe.data
    model = materials.recipe.model
    if model.tokenizer is None and materials.recipe.content.get("model", "").startswith(UNFETCHED):
        asked = sum(len(turn.content) for row in rows for turn in row.prompt) / len(rows)
        written = sum(len(row.completion) for row in rows) / len(rows)
        return _cut(data, asked / _CHARACTERS_PER_TOKEN, written / _CHARACTERS_PER_TOKEN)
    encoded = materials.encoder(materials.tokenizer).encode([(row.prompt, row.completion) for row in rows])
    prompts, completions = (sum(len(row[side]) for row in encoded) for side in (0, 1))
    return prompts / len(rows), completions / len(rows)


def _cut(data: Data, prompt: float, completion: float) -> tuple[float, float]:
    """Means as the recipe's lengths cut them, as if all texts were of the mean length."""
    kept = min(prompt, data.max_prompt_length)
    return kept, min(completion, data.max_length - kept)


def _published_counts(recipe: Recipe) -> Counts:
    """Count by published sizes, as views and plans would."""
    data, budget = recipe.data, recipe.budget
    sizes = sizes_of(data)
    if sizes is None:
        raise ValueError("check_point refuses what has no published sizes")
    prompt, completion = _cut(data, sizes.prompt_tokens, sizes.completion_tokens)
    base_units = sizes.pairs or sizes.desirable + sizes.undesirable
    chosen = 1.0 if data.num_pairs is None else min(1.0, data.num_pairs / base_units)
    per_unit = 2 if sizes.pairs else 1
    base_units = round(chosen * base_units)
    shown = chosen * data.fraction
    desirable = shown * sizes.desirable * data.desirable_fraction
    undesirable = shown * sizes.undesirable * data.undesirable_fraction
    if recipe.view == "Pairs":
        units = data.fraction * base_units * data.desirable_fraction * data.undesirable_fraction
        completions = 2 * units
    elif recipe.view == "Demonstrations":
        units = completions = desirable
    else:
        completions = desirable + undesirable
        if data.answers == "one_per_prompt":
            completions = min(completions, shown * sizes.prompts)
        units = min(data.fraction * base_units, completions)
    in_step = budget.batch_pairs * (1 if sizes.pairs or recipe.view == "Demonstrations" else 2)
    epochs = budget.epochs * budget.multiple
    each = completions / units
    if budget.match == "pairs":
        passed = epochs * units
    elif budget.match == "steps":
        passed = math.ceil(epochs * base_units * per_unit / 2 / budget.batch_pairs) * in_step
    else:
        passed = math.ceil(epochs * base_units * per_unit / each / in_step) * in_step
    test = min(sizes.test, recipe.scoring.num_prompts or sizes.test)
    return Counts(
        steps=math.ceil(passed / in_step),
        units=round(passed),
        completions=round(passed * each),
        rows=round(completions),
        prompts=round(units),
        demonstrations=round(chosen * sizes.desirable),
        test=test,
        dev=test,
        pairs=round(chosen * sizes.pairs),
        prompt=prompt,
        completion=completion,
        document=0.0,
    )
