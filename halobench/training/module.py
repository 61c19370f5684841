"""AlignmentModule: the one LightningModule, around any loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor

from halobench.data.batches import Microbatch, Rows, Step
from halobench.errors import DivergedError
from halobench.losses.base import Batch, Binary, Conditional, Demonstrations, Logps, Loss, LossOutput, Pairs
from halobench.models.logprobs import Scored, ScoredModel
from halobench.sections import Optim
from halobench.training.gate import check_start
from halobench.training.strategies import shard

_MOST_CURVE_POINTS = 200


class AlignmentModule(L.LightningModule):
    """Trains a model with a loss: one loader item is one optimizer step.

    Phase 1, without gradient, only for losses with batch statistics: sums over the step and all ranks. Phase
    2: loss and backward of each microbatch over the global count. So the number of microbatches and of ranks
        changes
    speed and memory, never the gradient.

    Args:
        loss: the loss.
        build: makes the model to train, with the critic if the loss has one.
        optim: the optimizer.
        num_steps: length of the plan.
        z0_per_microbatch: average the reference point over each microbatch, as the paper does, not over the
            step.
        starts_at_reference: whether `build` gives the reference itself, so that step 0 can be checked.
    """

    def __init__(
        self,
        loss: Loss,
        build: Callable[[], ScoredModel],
        optim: Optim,
        *,
        num_steps: int,
        z0_per_microbatch: bool = False,
        starts_at_reference: bool = True,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.loss = loss
        self.policy: ScoredModel | None = None
        self.curves: list[tuple[int, int, str, float]] = []
        self.num_tokens = 0
        self._build = build
        self._optim = optim
        self._num_steps = num_steps
        self._z0_per_microbatch = z0_per_microbatch
        self._checks_start = starts_at_reference and loss.needs_reference
        self._has_statistics = type(loss).statistics is not Loss.statistics

    def configure_model(self) -> None:
        """Build the model once, sharded where the strategy has a mesh."""
        if self.policy is None:
            self.policy = self._build()
            if self.device_mesh is not None:
                shard(self.policy, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; a critic is a group of its own, so that its gradient is clipped apart from the policy's."""
        policy = self._policy()
        groups = [{"params": list(policy.model.parameters())}]
        if policy.value_head is not None:
            groups.append({"params": list(policy.value_head.parameters())})
        optim = self._optim
        return torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)

    def training_step(self, step: Step, batch_idx: int) -> None:
        """Take one optimizer step."""
        policy = self._policy().train()
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self._learning_rate(batch_idx)
        z0 = self._reference_point(step)
        kept, statistics = self._statistics(step)

        denominator = self._denominator(step)
        sums = _Sums()
        for index, microbatch in enumerate(step.microbatches):
            scored = policy(microbatch.rows) if kept is None else kept
            local_z0 = self._local_reference_point(microbatch) if self._z0_per_microbatch else z0
            batch = self._batch(microbatch, scored, z0=local_z0, statistics=statistics)
            if self._checks_start and self.global_step == 0:
                in_bfloat16 = next(policy.parameters()).dtype == torch.bfloat16
                in_bfloat16 |= torch.is_autocast_enabled(self.device.type)
                check_start(self.loss, batch, self._mismatched_logps(microbatch), in_bfloat16=in_bfloat16)
            output = self.loss(batch)
            counted = _counted(microbatch, batch)
            total = torch.where(counted, output.losses, 0.0).sum()
            sums.add(output, counted, batch)
            # strategies average gradients over ranks; ours is a sum over the global count
            is_last = index == len(step.microbatches) - 1
            self._backward(total / denominator * self.trainer.world_size, synchronise=is_last)
        metrics = self._reduce(sums, denominator)
        metrics["grad_norm"] = self._clip(optimizer)
        if z0 is not None:
            metrics["z0"] = float(z0)
        self._require_finite(metrics, batch_idx)
        optimizer.step()
        optimizer.zero_grad()
        self._record(metrics, batch_idx, step.num_tokens)

    def _policy(self) -> ScoredModel:
        if self.policy is None:
            self.configure_model()
        return self.policy  # type: ignore[return-value]

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up to the peak, then linear decay to its final fraction at the last step."""
        optim = self._optim
        warmup = optim.warmup_fraction * self._num_steps
        left = (self._num_steps - step) / max(self._num_steps - warmup, 1)
        return optim.lr * min(1.0, (step + 1) / max(warmup, 1), max(optim.final_fraction, left))

    def _denominator(self, step: Step) -> float:
        """The global count that the step's sum is divided by; 1 where a step holds only repeats."""
        if self.loss.per == "token":
            return float(max(1, step.num_scored_tokens))
        return max(1.0, step.num_completions / (2 if self.loss.view() is Pairs else 1))

    def _batch(
        self,
        microbatch: Microbatch,
        scored: Scored,
        *,
        z0: Float[Tensor, ""] | None,
        statistics: Float[Tensor, " k"] | None,
    ) -> Batch:
        """Dress what the model said of a microbatch as the batch type of the loss."""
        logps = _logps(scored, microbatch.rows)
        kind = self.loss.view()
        if kind is Pairs:
            return Pairs(chosen=_every_other(logps, 0), rejected=_every_other(logps, 1))
        if kind is Binary:
            return Binary(completion=logps, desirable=microbatch.desirable, z0=z0, statistics=statistics)
        if kind is Conditional:
            return Conditional(completion=logps, desirable=microbatch.desirable)
        return Demonstrations(completion=logps)

    @torch.no_grad()
    def _mismatched_logps(self, microbatch: Microbatch) -> Logps | None:
        if microbatch.mismatched is None:
            return None
        return _logps(self._policy()(microbatch.mismatched), microbatch.mismatched)

    def _reference_point(self, step: Step) -> Float[Tensor, ""] | None:
        """z0 = max(0, mean log ratio of the step's mismatched completions), over all ranks, in nats."""
        if not self.loss.uses_z0 or self._z0_per_microbatch:
            return None
        parts = [self._mismatched_logps(microbatch) for microbatch in step.microbatches]
        total = torch.stack([part.log_ratio.sum() for part in parts if part is not None]).sum()
        return (self._sum_over_ranks(total) / max(1, step.num_completions)).clamp(min=0)

    def _local_reference_point(self, microbatch: Microbatch) -> Float[Tensor, ""] | None:
        part = self._mismatched_logps(microbatch)
        if part is None:
            return None
        return (part.log_ratio.sum() / (part.num_tokens > 0).sum().clamp(min=1)).clamp(min=0)

    def _statistics(self, step: Step) -> tuple[Scored | None, Float[Tensor, " k"] | None]:
        """Return the loss's sums over the step; a single microbatch is kept with its graph."""
        if not self._has_statistics:
            return None, None
        policy = self._policy()
        single = len(step.microbatches) == 1
        sums = []
        kept = None
        for microbatch in step.microbatches:
            with torch.set_grad_enabled(single):
                scored = policy(microbatch.rows)
            with torch.no_grad():
                sums.append(self.loss.statistics(self._batch(microbatch, scored, z0=None, statistics=None)))
            kept = scored if single else None
        return kept, self._sum_over_ranks(torch.stack(sums).sum(0))  # type: ignore[arg-type]

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        total: Any = self.trainer.strategy.reduce(value.clone(), reduce_op="sum")
        return total  # type: ignore[no-any-return]

    def _backward(self, loss: Tensor, *, synchronise: bool) -> None:
        """Add a microbatch's gradient; under ddp the ranks exchange theirs with the last one only."""
        strategy = self.trainer.strategy
        blocks = getattr(strategy, "block_backward_sync", None)
        if synchronise or blocks is None or self.device_mesh is not None:
            self.manual_backward(loss)
        else:
            with blocks():
                self.manual_backward(loss)

    def _clip(self, optimizer: Any) -> float:
        """Clip the gradient of each group by its norm; return the policy's norm before."""
        norms = [
            torch.nn.utils.clip_grad_norm_(group["params"], self._optim.clip)
            for group in optimizer.param_groups
        ]
        norm = norms[0]
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _reduce(self, sums: _Sums, denominator: float) -> dict[str, float]:
        names = sorted(sums.totals)
        values = self._sum_over_ranks(torch.stack([sums.totals[name] for name in names]).double()).tolist()
        totals = dict(zip(names, values, strict=True))
        metrics = {"loss": totals.pop("loss") / denominator}
        for name in [name for name in totals if not name.startswith("n:")]:
            count = totals[f"n:{name}"]
            if count:
                metrics[name] = totals[name] / count
        return metrics

    def _require_finite(self, metrics: dict[str, float], step: int) -> None:
        bad = [name for name in ("loss", "grad_norm") if not -float("inf") < metrics[name] < float("inf")]
        if bad:
            raise DivergedError(f"step {step + 1} of {self._num_steps}: {bad[0]} is {metrics[bad[0]]}")

    def _record(self, metrics: dict[str, float], step: int, num_tokens: int) -> None:
        self.num_tokens += num_tokens
        every = max(1, -(-self._num_steps // _MOST_CURVE_POINTS))
        if (step + 1) % every == 0 or step + 1 == self._num_steps:
            metrics["lr"] = self._learning_rate(step)
            self.curves += [
                (step + 1, self.num_tokens, name, value) for name, value in sorted(metrics.items())
            ]
            self.log_dict(metrics, rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves with the weights, so that a resumed run records the same."""
        checkpoint["halobench"] = {
            "curves": [list(row) for row in self.curves],
            "num_tokens": self.num_tokens,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the curves up again."""
        self.curves = [tuple(row) for row in checkpoint["halobench"]["curves"]]
        self.num_tokens = checkpoint["halobench"]["num_tokens"]


class _Sums:
    """Sums of what the curves show, and how many examples each is over (as "n:" and its name)."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}

    def add(self, output: LossOutput, counted: Tensor, batch: Batch) -> None:
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


def _logps(scored: Scored, rows: Rows) -> Logps:
    return Logps(policy=scored.logps, reference=rows.reference, mask=scored.mask, values=scored.values)


def _every_other(logps: Logps, first: int) -> Logps:
    """Rows first, first + 2, ... of interleaved pairs."""
    reference = None if logps.reference is None else logps.reference[first::2]
    return Logps(policy=logps.policy[first::2], reference=reference, mask=logps.mask[first::2])


def _counted(microbatch: Microbatch, batch: Batch) -> Tensor:
    """(B,) False for the rows that only keep a rank busy."""
    lengths = microbatch.rows.completion_lengths
    return (lengths[::2] if isinstance(batch, Pairs) else lengths) > 0
