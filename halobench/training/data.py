"""What each training stage trains on: units of tokenised rows, and the plan of its optimizer steps."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from halobench.data.batches import Step, endless_order, make_step, plan_steps
from halobench.data.rows import Row
from halobench.data.tokenize import Tokens
from halobench.data.tokens import TokenRows
from halobench.data.views import View, derange, make_view
from halobench.feedback import Response
from halobench.materials import Materials
from halobench.models.reference import reference_logps


@dataclass(frozen=True)
class StageData:
    """Rows, the units they make up, and which units make up each step.

    Attributes:
        rows: the completions, which may be put together when they are asked for.
        units: number of each unit to its rows.
        mismatched: for each row the same prompt with the completion of another; None without z0.
        plan: the units of each step.
        max_tokens: tokens of a microbatch, padding included.
        packed: whether microbatches are packed, or padded.
        each_reads_its_prompts: see `make_step`.
    """

    rows: Sequence[Row]
    units: Mapping[int, range]
    mismatched: Sequence[Row] | None
    plan: list[tuple[int, ...]]
    max_tokens: int
    packed: bool = True
    each_reads_its_prompts: bool = False

    @property
    def labels(self) -> Counter[bool]:
        """How many rows have each label."""
        return Counter(row.desirable for row in self.rows)

    def step(self, index: int, *, rank: int, num_ranks: int) -> Step:
        """Make one rank's share of a step."""
        units = [self.units[unit] for unit in self.plan[index]]
        others = self.mismatched
        return make_step(
            [[self.rows[row] for row in unit] for unit in units],
            None if others is None else [[others[row] for row in unit] for unit in units],
            max_tokens=self.max_tokens,
            packed=self.packed,
            each_reads_its_prompts=self.each_reads_its_prompts,
            rank=rank,
            num_ranks=num_ranks,
        )


def base_data(materials: Materials) -> StageData:
    """Documents of the world, every token scored."""
    recipe = materials.recipe
    stage = recipe.base
    if stage is None:
        raise ValueError("the recipe has no base stage")
    documents = materials.world.documents(stage.num_documents, seed=recipe.base_seed)
    encoder = materials.encoder(materials.tokenizer)
    rows = [Row(*tokens, True) for tokens in encoder.documents([document.text for document in documents])]
    order = endless_order(len(rows), recipe.base_seed)
    plan = [tuple(itertools.islice(order, stage.batch_documents)) for _ in range(stage.steps)]
    units = {index: range(index, index + 1) for index in range(len(rows))}
    return StageData(rows, units, None, plan, recipe.execution.microbatch_tokens)


def sft_data(materials: Materials) -> StageData:
    """The chosen completions of the base selection, each once an epoch."""
    recipe = materials.recipe
    stage = recipe.sft
    if stage is None:
        raise ValueError("the recipe has no SFT stage")
    view = make_view(materials.feedback, "Demonstrations")
    plan = plan_steps(
        view, match="pairs", epochs=stage.epochs, batch_pairs=stage.batch_pairs, seed=recipe.data_seed
    )
    rows = _rows(view, materials, {})
    return StageData(rows, _units(view), None, plan, recipe.execution.microbatch_tokens)


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
        contradicting_share=recipe.data.contradicting_share,
        contradictions=recipe.data.contradictions,
        one_per_prompt=recipe.data.answers == "one_per_prompt",
        fraction=recipe.data.fraction,
        desirable_fraction=recipe.data.desirable_fraction,
        undesirable_fraction=recipe.data.undesirable_fraction,
        seed=recipe.data_seed,
    )


def alignment_plan(materials: Materials, view: View) -> list[tuple[int, ...]]:
    """The units of each step of the alignment, at the recipe's budget."""
    budget, data = materials.recipe.budget, materials.recipe.data
    return plan_steps(
        view,
        match=budget.match,
        epochs=budget.epochs * budget.multiple,
        batch_pairs=budget.batch_pairs,
        seed=materials.recipe.seed,
        stratified=min(data.desirable_fraction, data.undesirable_fraction) < 1,
    )


def alignment_data(materials: Materials, controls: Mapping[bool, int], reference: Path) -> StageData:
    """The loss's view with the reference's log-probabilities and, for z0, mismatched completions.

    Args:
        materials: of the run.
        controls: token that stands between prompt and completion of desirable rows and of others, if any.
        reference: the model that the loss compares with, a Hugging Face folder.
    """
    recipe = materials.recipe
    view = alignment_view(materials)
    rows = _rows(view, materials, {label: (token,) for label, token in controls.items()})
    mismatched = None
    if materials.loss.uses_z0:
        prompt_ids = [example.response.prompt_id for example in view.examples]
        mismatched = rows.mismatched(derange(prompt_ids, recipe.data_seed))
    if materials.loss.needs_reference:
        rows = _with_reference(rows, materials, reference)
        mismatched = None if mismatched is None else _with_reference(mismatched, materials, reference)
    plan = alignment_plan(materials, view)
    return StageData(rows, _units(view), mismatched, plan, recipe.execution.microbatch_tokens)


def _rows(view: View, materials: Materials, controls: Mapping[bool, Tokens]) -> TokenRows:
    examples = list(view.examples)
    responses = {example.response.response_id: example.response for example in examples}
    is_selected = responses.keys() <= materials.selected.responses.keys()
    # the policy's own answers, or better demonstrations, are not
    table = materials.tokens if is_selected else materials.tokenised(responses)
    numbers = np.array([table.rows[example.response.response_id] for example in examples], dtype=np.int64)
    return TokenRows(
        table,
        prompts=numbers,
        completions=numbers,
        desirable=np.array([example.desirable for example in examples], dtype=bool),
        controls=controls,
        scores_control=bool(controls) and materials.loss.scores_control_token,
    )


def _units(view: View) -> Mapping[int, range]:
    """Where the rows of each unit are among all."""
    units: dict[int, range] = {}
    end = 0
    for number, unit in view.units.items():
        units[number] = range(end, end + len(unit))
        end += len(unit)
    return units


def _with_reference(rows: TokenRows, materials: Materials, reference: Path) -> TokenRows:
    found = reference_logps(
        rows,
        reference,
        materials.artifacts,
        precision=materials.recipe.precision,
        trust=materials.recipe.model.trust,
        report=lambda done, total: materials.report("reference", done, total),
    )
    return replace(rows, reference=found)
