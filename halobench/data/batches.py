"""The plan of the optimizer steps, and the microbatches that a step is made of."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from halobench.data.rows import Row, Rows, pack_rows, pad_rows
from halobench.data.tokenize import Tokens
from halobench.data.views import View

Match = Literal["pairs", "examples", "steps"]


def plan_steps(
    view: View, *, match: Match, epochs: float, batch_pairs: int, seed: int, stratified: bool = False
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
        stratified: whether each step gets its share of the units with few labels; for thinned views.
    """
    per_step = batch_pairs * (1 if view.paired or view.kind == "Demonstrations" else 2)
    stream = _units_in_order(view, seed, stratified=stratified)
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
    return itertools.chain.from_iterable(_orders(num_units, seed))


def _orders(num_units: int, seed: int) -> Iterator[list[int]]:
    """Yield the order of each epoch."""
    for epoch in itertools.count():
        order = list(range(num_units))
        random.Random(f"order-{seed}-{epoch}").shuffle(order)
        yield order


def _units_in_order(view: View, seed: int, *, stratified: bool) -> Iterator[int]:
    for order in _orders(view.num_base_units, seed):
        shown = [unit for unit in order if unit in view.units]
        yield from _spread(shown, view) if stratified else shown


def _spread(order: Sequence[int], view: View) -> list[int]:
    """Spread the units of each kind, by the labels that are left of them, evenly over an epoch.

    Of 1% of the desirable answers a third of the steps would see none, and others several, whose weights make
    up for all that were dropped.
    """
    kinds = {unit: tuple(sorted(example.desirable for example in view.units[unit])) for unit in order}
    totals = Counter(kinds.values())
    seen: Counter[tuple[bool, ...]] = Counter()
    places = {}
    for unit in order:
        places[unit] = (seen[kinds[unit]] + 0.5) / totals[kinds[unit]]
        seen[kinds[unit]] += 1
    return sorted(order, key=lambda unit: places[unit])


@dataclass(frozen=True, kw_only=True)
class Microbatch:
    """What goes through the model at once.

    Args:
        rows: the completions; for pairs, chosen and rejected in turn.
        desirable: (N,) their labels.
        mismatched: each prompt with a completion of another prompt, for z0; None where no z0 is needed.
        goes_on: whether `mismatched` holds the other completions only and reads the prompts of `rows`.
    """

    rows: Rows
    desirable: Bool[Tensor, " rows"]
    mismatched: Rows | None
    goes_on: bool

    def to(self, device: torch.device, **kwargs: Any) -> Microbatch:
        """The same on a device."""
        return replace(
            self,
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
    packed: bool = True,
    each_reads_its_prompts: bool = False,
    rank: int = 0,
    num_ranks: int = 1,
) -> Step:
    """Build one rank's share of a step.

    Args:
        units: the rows of each unit of the whole step; a unit stays on one rank and in one microbatch.
        mismatched: for each unit and row, the same prompt with the completion of another prompt; or None.
        max_tokens: tokens of a microbatch, padding included; a unit that is larger gets one of its own.
        packed: without padding, prompts once for all their completions; else the padded rectangle.
        each_reads_its_prompts: mismatched completions read the prompts of their own microbatch even where a
            step has several; otherwise they stand alone there, because z0 is needed before the first of them.
        rank: whose share.
        num_ranks: how many there are.
    """
    extra = [()] * len(units) if mismatched is None else mismatched
    divide = _divide_packed if packed else _divide_padded
    together = _by_prompt(units) if packed else [[index] for index in range(len(units))]
    shares = [divide(together[r::num_ranks], units, extra, max_tokens) for r in range(num_ranks)]
    num_parts = max(1, *(len(share) for share in shares))
    parts = shares[rank] + [[]] * (num_parts - len(shares[rank]))
    goes_on = packed and (num_parts == 1 or each_reads_its_prompts)
    return Step(
        microbatches=[
            _microbatch(
                [row for unit in part for row in units[unit]],
                None if mismatched is None else [row for unit in part for row in mismatched[unit]],
                packed=packed,
                goes_on=goes_on,
            )
            for part in parts
        ],
        num_completions=sum(len(unit) for unit in units),
        num_scored_tokens=sum(len(row.completion) for unit in units for row in unit),
        num_tokens=sum(row.length for unit in [*units, *(mismatched or [])] for row in unit),
    )


def _microbatch(
    rows: Sequence[Row], mismatched: Sequence[Row] | None, *, packed: bool, goes_on: bool
) -> Microbatch:
    """Build what goes through the model at once.

    A rank that has run out of rows still takes part in every collective, so it gets two that score nothing.
    """
    desirable = torch.tensor([row.desirable for row in rows] or [True, False])
    nothing = np.empty(0, np.float32)
    filler = [Row((0,), (), True, nothing), Row((0,), (), False, nothing)]
    rows, others = rows or filler, None if mismatched is None else mismatched or filler
    make = pack_rows if packed else pad_rows
    extra = None if others is None else pack_rows(others, after=rows) if goes_on else make(others)
    return Microbatch(rows=make(rows), desirable=desirable, mismatched=extra, goes_on=goes_on)


def _by_prompt(units: Sequence[Sequence[Row]]) -> list[list[int]]:
    """Units whose first rows have the same prompt, side by side."""
    found: dict[Tokens, list[int]] = {}
    for index, unit in enumerate(units):
        found.setdefault(unit[0].prompt if unit else (), []).append(index)
    return list(found.values())


def _divide_packed(
    together: Sequence[Sequence[int]],
    units: Sequence[Sequence[Row]],
    mismatched: Sequence[Sequence[Row]],
    max_tokens: int,
) -> list[list[int]]:
    """Divide units into microbatches, first fit, largest first; one prompt's together where they can be."""
    sized: list[tuple[int, list[int]]] = []
    for group in together:
        if _packed_size(group, units, mismatched) <= max_tokens:
            sized.append((_packed_size(group, units, mismatched), list(group)))
        else:
            sized += [(_packed_size([unit], units, mismatched), [unit]) for unit in group]
    parts: list[list[int]] = []
    room: list[int] = []
    for size, group in sorted(sized, key=lambda entry: -entry[0]):
        if not size:
            continue
        place = next((index for index, left in enumerate(room) if size <= left), len(parts))
        if place == len(parts):
            parts.append([])
            room.append(max_tokens)
        parts[place] += group
        room[place] -= size
    return parts


def _packed_size(
    group: Sequence[int], units: Sequence[Sequence[Row]], mismatched: Sequence[Sequence[Row]]
) -> int:
    """Tokens of the units when every prompt stands once."""
    rows = [row for unit in group for row in (*units[unit], *mismatched[unit])]
    return sum(len(prompt) for prompt in {row.prompt for row in rows}) + sum(len(r.completion) for r in rows)


def _divide_padded(
    together: Sequence[Sequence[int]],
    units: Sequence[Sequence[Row]],
    mismatched: Sequence[Sequence[Row]],
    max_tokens: int,
) -> list[list[int]]:
    """Divide units into microbatches: the longest first, as many as fit the rectangle of the longest."""
    width = {
        unit: max((row.length for row in (*units[unit], *mismatched[unit])), default=0) for [unit] in together
    }
    parts: list[list[int]] = []
    num_rows = widest = 0
    for unit in sorted(width, key=lambda unit: -width[unit]):
        if parts and (num_rows + len(units[unit])) * widest <= max_tokens:
            num_rows += len(units[unit])
            parts[-1].append(unit)
        else:
            parts.append([unit])
            num_rows, widest = len(units[unit]), width[unit]
    return parts
