"""From what the policy says of a microbatch to its loss: the batch types, z0, the statistics of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from halobench.data.batches import Microbatch
from halobench.losses.base import Batch, Binary, Conditional, Demonstrations, Logps, Loss, LossOutput, Pairs
from halobench.models.logprobs import Scored
from halobench.training.gate import check_start

SumOverRanks = Callable[[Tensor], Tensor]


class Constants(NamedTuple):
    """What the examples of a step have in common.

    Args:
        z0: scalar reference point in nats; None without one, or while it is not known.
        statistics: (k,) sums of the loss over the step; likewise.
    """

    z0: Float[Tensor, ""] | None = None
    statistics: Float[Tensor, " k"] | None = None


def reference_point(
    parts: Sequence[Logps], sum_over_ranks: SumOverRanks, count: int | None
) -> Float[Tensor, ""]:
    """z0 = max(0, mean log ratio of mismatched completions) in nats.

    Args:
        parts: the mismatched completions of this rank.
        sum_over_ranks: adds a tensor up over the ranks.
        count: completions of the whole step, on all ranks; None for the mean over these parts alone.
    """
    total = torch.stack([part.log_ratio.sum() for part in parts]).sum()
    if count is None:
        here = torch.stack([(part.num_tokens > 0).sum() for part in parts]).sum()
        return (total / here.clamp(min=1)).clamp(min=0)
    return (sum_over_ranks(total) / max(1, count)).clamp(min=0)


def step_statistics(
    loss: Loss, parts: Sequence[tuple[Scored, Microbatch]], sum_over_ranks: SumOverRanks
) -> Float[Tensor, " k"]:
    """(k,) the loss's sums over the step and all ranks."""
    every = slice(None)
    sums = [loss.statistics(make_batch(loss, scored, part, every, Constants())) for scored, part in parts]
    return sum_over_ranks(torch.stack(sums).sum(0))  # type: ignore[arg-type]


def make_batch(
    loss: Loss, scored: Scored, microbatch: Microbatch, rows: slice, constants: Constants
) -> Batch:
    """Dress what the policy said of some rows of a microbatch as the batch type of the loss."""
    logps = logps_of(scored, microbatch.rows.reference, rows)
    kind = loss.view()
    if kind is Pairs:
        return Pairs(chosen=_every_other(logps, 0), rejected=_every_other(logps, 1))
    desirable = microbatch.desirable[rows]
    if kind is Binary:
        return Binary(completion=logps, desirable=desirable, **constants._asdict())
    if kind is Conditional:
        return Conditional(completion=logps, desirable=desirable)
    return Demonstrations(completion=logps)


def logps_of(scored: Scored, reference: Float[Tensor, "n longest"] | None, rows: slice) -> Logps:
    """The policy's log-probabilities of some rows with the reference's of the same."""
    if reference is not None:
        reference = reference[rows, : scored.logps.shape[1]]
    return Logps(policy=scored.logps, reference=reference, mask=scored.mask, values=scored.values)


def _every_other(logps: Logps, first: int) -> Logps:
    """Rows first, first + 2, ... of interleaved pairs."""
    reference = None if logps.reference is None else logps.reference[first::2]
    return Logps(policy=logps.policy[first::2], reference=reference, mask=logps.mask[first::2])


class Sums:
    """Sums of what the curves show, and how many examples each is over (as "n:" and its name)."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, output: LossOutput, counted: Bool[Tensor, " examples"], batch: Batch) -> None:
        """Add the examples that count."""
        self._put("loss", output.losses.detach(), counted)
        for name, values in output.metrics.items():
            self._put(name, values.detach(), counted)
        rewards = output.rewards
        if rewards is None:
            return
        if isinstance(batch, Pairs):
            self._put("reward_chosen", rewards[:, 0], counted)
            self._put("reward_rejected", rewards[:, 1], counted)
            self._put("reward_accuracy", (rewards[:, 0] > rewards[:, 1]).double(), counted)
        elif isinstance(batch, Binary):
            self._put("reward_desirable", rewards, counted & batch.desirable)
            self._put("reward_undesirable", rewards, counted & ~batch.desirable)

    def _put(self, name: str, values: Tensor, counted: Tensor) -> None:
        for key, value in ((name, torch.where(counted, values, 0.0).sum()), (f"n:{name}", counted.sum())):
            self.totals[key] = self.totals.get(key, torch.zeros_like(value)) + value


@dataclass(kw_only=True)
class MicrobatchLoss:
    """The loss of a microbatch, asked by the policy in its forward pass; an `Objective`.

    Args:
        loss: the loss.
        microbatch: the examples.
        scale: of every example's loss.
        constants: of the step, as far as they are known; the rest is found out when it starts.
        others: what the policy says of mismatched completions that stand alone; None where it says so later.
        num_completions: of the whole step; None for a reference point of this microbatch alone.
        has_statistics: whether the loss has any.
        checks_start: whether policy and reference must be the same model.
        in_bfloat16: whether the model computes in it.
        sum_over_ranks: adds a tensor up over the ranks.
        sums: of the step, for the curves.
    """

    loss: Loss
    microbatch: Microbatch
    scale: float
    constants: Constants
    others: Scored | None
    num_completions: int | None
    has_statistics: bool
    checks_start: bool
    in_bfloat16: bool
    sum_over_ranks: SumOverRanks
    sums: Sums = field(repr=False)
    _mismatched: Logps | None = None

    @property
    def separable(self) -> bool:
        """Whether the loss may be asked chunk by chunk."""
        return self.loss.separable

    @property
    def rows_per_example(self) -> int:
        """Two completions of a pair, or one."""
        return 2 if self.loss.view() is Pairs else 1

    def start(self, own: Callable[[], Scored], mismatched: Scored | None) -> None:
        """Find out z0 and the statistics where they are not known yet."""
        z0, statistics = self.constants
        others = mismatched or self.others
        if others is not None and self.microbatch.mismatched is not None:
            self._mismatched = logps_of(others, self.microbatch.mismatched.reference, slice(None))
            if z0 is None:
                z0 = reference_point([self._mismatched], self.sum_over_ranks, self.num_completions)
        if self.has_statistics and statistics is None:
            statistics = step_statistics(self.loss, [(own(), self.microbatch)], self.sum_over_ranks)
        self.constants = Constants(z0, statistics)

    def __call__(self, scored: Scored, rows: slice) -> Float[Tensor, ""]:
        """Scaled sum of the losses of the examples in these rows; those that only fill up count nothing."""
        batch = make_batch(self.loss, scored, self.microbatch, rows, self.constants)
        if self.checks_start:
            check_start(self.loss, batch, self._mismatched, in_bfloat16=self.in_bfloat16)
            self._mismatched = None  # once is enough
        output = self.loss(batch)
        counted = self.microbatch.rows.completion_lengths[rows][:: self.rows_per_example] > 0
        self.sums.add(output, counted, batch)
        return torch.where(counted, output.losses, 0.0).sum() * self.scale
