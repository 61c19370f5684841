"""What each training stage trains on: units of tokenised rows, and the plan of its optimizer steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halobench.data.batches import Step, endless_order, make_step, plan_steps
from halobench.data.rows import Row
from halobench.data.tokenize import Encoder
from halobench.data.views import Example, View, derange, make_view
from halobench.feedback import Response
from halobench.losses.base import Loss
from halobench.materials import Materials
from halobench.models.reference import with_reference

Units = Mapping[int, tuple[Row, ...]]


@dataclass(frozen=True)
class StageData:
    """Rows by unit, and which units make up each step.

    Attributes:
        units: number of each unit to its rows.
        mismatched: for each unit and row the same prompt with the completion of another; None without z0.
        plan: the units of each step.
        max_tokens: tokens of a microbatch, padding included.
        packed: whether microbatches are packed, or padded.
        each_reads_its_prompts: see `make_step`.
    """

    units: Units
    mismatched: Units | None
    plan: list[tuple[int, ...]]
    max_tokens: int
    packed: bool = True
    each_reads_its_prompts: bool = False

    def step(self, index: int, *, rank: int, num_ranks: int) -> Step:
        """Make one rank's share of a step."""
        chosen = self.plan[index]
        return make_step(
            [self.units[unit] for unit in chosen],
            None if self.mismatched is None else [self.mismatched[unit] for unit in chosen],
            max_tokens=self.max_tokens,
            packed=self.packed,
            each_reads_its_prompts=self.each_reads_its_prompts,
            rank=rank,
            num_ranks=num_ranks,
        )


def base_data(materials: Materials, encoder: Encoder) -> StageData:
    """Documents of the world, every token scored."""
    recipe = materials.recipe
    stage = recipe.base
    if stage is None:
        raise ValueError("the recipe has no base stage")
    documents = materials.world.documents(stage.num_documents, seed=recipe.base_seed)
    encoder.read(documents=(document.text for document in documents))
    units = {i: (Row(*encoder.document(document.text), True),) for i, document in enumerate(documents)}
    order = endless_order(len(units), recipe.base_seed)
    plan = [tuple(itertools.islice(order, stage.batch_documents)) for _ in range(stage.steps)]
    return StageData(units, None, plan, recipe.execution.microbatch_tokens)


def sft_data(materials: Materials, encoder: Encoder) -> StageData:
    """The chosen completions of the base selection, each once an epoch."""
    recipe = materials.recipe
    stage = recipe.sft
    if stage is None:
        raise ValueError("the recipe has no SFT stage")
    view = make_view(materials.feedback, "Demonstrations")
    plan = plan_steps(
        view, match="pairs", epochs=stage.epochs, batch_pairs=stage.batch_pairs, seed=recipe.data_seed
    )
    return StageData(_encode(view, encoder, None), None, plan, recipe.execution.microbatch_tokens)


def alignment_view(materials: Materials) -> View:
    """The view that the recipe's loss is shown."""
    recipe = materials.recipe

    def best(responses: Sequence[Response]) -> list[str]:
        return materials.world.best_of([row.prompt for row in responses], 16, seed=recipe.data_seed)

    return make_view(
        materials.shown,
        materials.loss.view().__name__,
        labels=recipe.data.labels,
        best=best if recipe.data.demonstrations == "best_of_16" else None,
        label_noise=recipe.data.label_noise,
        one_per_prompt=recipe.data.answers == "one_per_prompt",
        desirable_fraction=recipe.data.desirable_fraction,
        undesirable_fraction=recipe.data.undesirable_fraction,
        seed=recipe.data_seed,
    )


def alignment_plan(materials: Materials, view: View) -> list[tuple[int, ...]]:
    """The units of each step of the alignment, at the recipe's budget."""
    budget = materials.recipe.budget
    return plan_steps(
        view,
        match=budget.match,
        epochs=budget.epochs * budget.multiple,
        batch_pairs=budget.batch_pairs,
        seed=materials.recipe.seed,
    )


def alignment_data(
    materials: Materials, encoder: Encoder, reference: Path, report: Callable[[int, int], None]
) -> StageData:
    """The loss's view with the reference's log-probabilities and, for z0, mismatched completions."""
    recipe = materials.recipe
    view = alignment_view(materials)
    units = _encode(view, encoder, materials.loss)
    mismatched = None
    if materials.loss.uses_z0:
        rows = [row for unit in units.values() for row in unit]
        partners = derange([example.response.prompt_id for example in view.examples], recipe.data_seed)
        swapped = [
            row._replace(completion=rows[other].completion) for row, other in zip(rows, partners, strict=True)
        ]
        mismatched = _regroup(swapped, units)
    if materials.loss.needs_reference:
        units = _score(units, materials, reference, report)
        mismatched = None if mismatched is None else _score(mismatched, materials, reference, report)
    plan = alignment_plan(materials, view)
    return StageData(units, mismatched, plan, recipe.execution.microbatch_tokens)


def _encode(view: View, encoder: Encoder, loss: Loss | None) -> Units:
    responses = [example.response for example in view.examples]
    encoder.read(prompts=(row.prompt for row in responses), completions=(row.completion for row in responses))
    return {
        number: tuple(_row(example, encoder, loss) for example in unit) for number, unit in view.units.items()
    }


def _row(example: Example, encoder: Encoder, loss: Loss | None) -> Row:
    prompt = encoder.prompt(example.response.prompt)
    control: tuple[int, ...] = ()
    if loss is not None and loss.control_tokens:
        good, bad = loss.control_tokens
        control = (encoder.control(good if example.desirable else bad),)
    completion = encoder.completion(example.response.completion, len(prompt) + len(control))
    if loss is not None and loss.scores_control_token:
        return Row(prompt, control + completion, example.desirable)
    return Row(prompt + control, completion, example.desirable)


def _score(units: Units, materials: Materials, reference: Path, report: Callable[[int, int], None]) -> Units:
    """Attach the reference's log-probabilities.

    They are asked for in the order of their tokens and each once, so that losses that see the same
    completions in another order, or under other labels, share one artifact.
    """
    rows = [row for unit in units.values() for row in unit]
    distinct = sorted({row._replace(desirable=True) for row in rows})
    scored = with_reference(
        distinct, reference, materials.artifacts, precision=materials.recipe.precision, report=report
    )
    known = {(row.prompt, row.completion): row.reference for row in scored}
    return _regroup([row._replace(reference=known[row.prompt, row.completion]) for row in rows], units)


def _regroup(rows: Sequence[Row], like: Units) -> Units:
    remaining = iter(rows)
    return {number: tuple(itertools.islice(remaining, len(unit))) for number, unit in like.items()}
