"""The plan of the optimizer steps, and the padded microbatches that a step is made of."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halobench.data.tokenize import Tokens
from halobench.data.views import View

Match = Literal["pairs", "examples", "steps"]


def plan_steps(
    view: View, *, match: Match, epochs: float, batch_pairs: int, seed: int
) -> list[tuple[int, ...]]:
    """List, for each optimizer step, the units of the view that it is made of.

    The order of the units is a permutation per epoch that depends on the seed and on the number of base
    units only, so that every loss meets the same pairs in the same steps. A step takes `batch_pairs` pairs
    with both their sides: twice as many completions in unpaired views, once as many demonstrations. A unit
    that only repeats earlier ones keeps its place in the step and adds nothing to it.

    Args:
        view: what the loss is shown.
        match: what is equal over losses: passes over the units, completions consumed, or the number of steps.
        epochs: passes over the base selection; the other two are counted in them.
        batch_pairs: pairs per step.
        seed: of the order.
    """
    per_step = batch_pairs * (1 if view.paired or view.kind == "Demonstrations" else 2)
    stream = (unit for unit in endless_order(view.num_base_units, seed) if unit in view.units)
    match match:
        case "pairs":
            num_units = _ceil(epochs * len(view.units))
            sizes = [per_step] * (num_units // per_step)
            sizes += [num_units % per_step] if num_units % per_step else []
            return [tuple(itertools.islice(stream, size)) for size in sizes]
        case "steps":
            base_pairs = view.num_base_units * view.completions_per_unit / 2
            num_steps = _ceil(epochs * base_pairs / batch_pairs)
            return [tuple(itertools.islice(stream, per_step)) for _ in range(num_steps)]
        case "examples":
            steps: list[tuple[int, ...]] = []
            missing = _ceil(epochs * view.num_base_units * view.completions_per_unit)
            while missing > 0:
                steps.append(tuple(itertools.islice(stream, per_step)))
                missing -= sum(len(view.units[unit]) for unit in steps[-1])
            return steps


def _ceil(count: float) -> int:
    """Round up, but for what the float has too much: 1.1 epochs of 3,000 pairs are 3,300."""
    return math.ceil(round(count, 6))


def endless_order(num_units: int, seed: int) -> Iterator[int]:
    """Yield 0 ... num_units - 1 again and again, in an order of its own in each epoch."""
    for epoch in itertools.count():
        order = list(range(num_units))
        random.Random(f"order-{seed}-{epoch}").shuffle(order)
        yield from order


class Row(NamedTuple):
    """One tokenised completion.

    Attributes:
        prompt: token ids, the control token included where it is only a condition.
        completion: token ids that are scored.
        desirable: its label.
        reference: (completion,) log-probabilities under the reference in nats, float32; None where none are
            needed.
    """

    prompt: Tokens
    completion: Tokens
    desirable: bool
    reference: np.ndarray | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Completions padded to one rectangle, prompts first, padding at the end.

    Args:
        input_ids: (N, T) token ids.
        prompt_lengths: (N,) tokens of each prompt.
        completion_lengths: (N,) scored tokens of each completion; 0 for a row that only fills up.
        reference: (N, C) log-probabilities of the scored tokens under the reference in nats, or None.
    """

    input_ids: Int[Tensor, "rows tokens"]
    prompt_lengths: Int[Tensor, " rows"]
    completion_lengths: Int[Tensor, " rows"]
    reference: Float[Tensor, "rows scored"] | None

    def to(self, device: torch.device, **kwargs: Any) -> Rows:
        """The same on a device."""
        return Rows(
            input_ids=self.input_ids.to(device, **kwargs),
            prompt_lengths=self.prompt_lengths.to(device, **kwargs),
            completion_lengths=self.completion_lengths.to(device, **kwargs),
            reference=None if self.reference is None else self.reference.to(device, **kwargs),
        )


@dataclass(frozen=True, kw_only=True)
class Microbatch:
    """What goes through the model at once.

    Args:
        rows: the completions; for pairs, chosen and rejected in turn.
        desirable: (N,) their labels.
        mismatched: each prompt with a completion of another prompt, for z0; None where no z0 is needed.
    """

    rows: Rows
    desirable: Bool[Tensor, " rows"]
    mismatched: Rows | None

    def to(self, device: torch.device, **kwargs: Any) -> Microbatch:
        """The same on a device."""
        return Microbatch(
            rows=self.rows.to(device, **kwargs),
            desirable=self.desirable.to(device, **kwargs),
            mismatched=None if self.mismatched is None else self.mismatched.to(device, **kwargs),
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rank's share of an optimizer step; all ranks have as many microbatches.

    Args:
        microbatches: the share, in parts that fit the memory.
        num_completions: completions of the whole step, on all ranks.
        num_scored_tokens: scored tokens of the whole step, on all ranks.
        num_tokens: tokens that the whole step puts through the model, mismatched rows included, padding not.
    """

    microbatches: list[Microbatch]
    num_completions: int
    num_scored_tokens: int
    num_tokens: int

    def to(self, device: torch.device, **kwargs: Any) -> Step:
        """The same on a device; Lightning calls it for every step."""
        return replace(self, microbatches=[part.to(device, **kwargs) for part in self.microbatches])


def make_step(
    units: Sequence[Sequence[Row]],
    mismatched: Sequence[Sequence[Row]] | None,
    *,
    max_tokens: int,
    rank: int = 0,
    num_ranks: int = 1,
) -> Step:
    """Build one rank's share of a step.

    Args:
        units: the rows of each unit of the whole step; a unit stays on one rank and in one microbatch.
        mismatched: for each unit and row, the same prompt with the completion of another prompt; or None.
        max_tokens: tokens of a microbatch, padding included; a unit that is larger gets one of its own.
        rank: whose share.
        num_ranks: how many there are.
    """
    lengths = [
        max((row.length for row in (*unit, *(mismatched[index] if mismatched else ()))), default=0)
        for index, unit in enumerate(units)
    ]
    shares = [_pack(range(r, len(units), num_ranks), units, lengths, max_tokens) for r in range(num_ranks)]
    num_parts = max(1, *(len(share) for share in shares))
    parts = shares[rank] + [[]] * (num_parts - len(shares[rank]))
    return Step(
        microbatches=[
            Microbatch(
                rows=pad_rows([row for unit in part for row in units[unit]]),
                desirable=torch.tensor(
                    [row.desirable for unit in part for row in units[unit]] or [True, False]
                ),
                mismatched=None
                if mismatched is None
                else pad_rows([row for unit in part for row in mismatched[unit]]),
            )
            for part in parts
        ],
        num_completions=sum(len(unit) for unit in units),
        num_scored_tokens=sum(len(row.completion) for unit in units for row in unit),
        num_tokens=sum(row.length for unit in [*units, *(mismatched or [])] for row in unit),
    )


def _pack(
    chosen: Sequence[int], units: Sequence[Sequence[Row]], lengths: Sequence[int], max_tokens: int
) -> list[list[int]]:
    """Divide units into microbatches: the longest first, as many as fit the rectangle of the longest."""
    parts: list[list[int]] = []
    rows = width = 0
    for unit in sorted(chosen, key=lambda unit: -lengths[unit]):
        if parts and (rows + len(units[unit])) * width <= max_tokens:
            rows += len(units[unit])
            parts[-1].append(unit)
        else:
            parts.append([unit])
            rows, width = len(units[unit]), lengths[unit]
    return parts


def batch_by_length(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Yield indices of rows of similar length, the shortest first, as many as fit with their padding."""
    part: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: rows[index].length):
        if part and rows[index].length * (len(part) + 1) > max_tokens:
            yield part
            part = []
        part.append(index)
    if part:
        yield part


def pad_rows(rows: Sequence[Row]) -> Rows:
    """Pad rows to one rectangle; no rows at all become two that hold nothing to score.

    A rank that has run out of rows still takes part in every collective, so it needs something to compute.
    """
    nothing = np.empty(0, np.float32)
    rows = rows or [Row((0,), (), True, nothing), Row((0,), (), False, nothing)]
    width = max(row.length for row in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(rows):
        input_ids[index, : row.length] = torch.tensor([*row.prompt, *row.completion])
    scored = max(1, *(len(row.completion) for row in rows))
    reference = None
    if any(row.reference is not None for row in rows):
        reference = torch.zeros(len(rows), scored)
        for index, row in enumerate(rows):
            reference[index, : len(row.completion)] = torch.as_tensor(np.array(row.reference))
    return Rows(
        input_ids=input_ids,
        prompt_lengths=torch.tensor([len(row.prompt) for row in rows]),
        completion_lengths=torch.tensor([len(row.completion) for row in rows]),
        reference=reference,
    )
