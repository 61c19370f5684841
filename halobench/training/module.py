"""AlignmentModule: the one LightningModule, around any loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor

from halobench.data.batches import Microbatch, Step
from halobench.errors import DivergedError
from halobench.losses.base import Loss, Pairs
from halobench.models.logprobs import ScoredModel
from halobench.sections import Optim
from halobench.storage import digest
from halobench.training.objective import (
    Constants,
    MicrobatchLoss,
    Sums,
    logps_of,
    reference_point,
    step_statistics,
)
from halobench.training.strategies import shard

_MOST_CURVE_POINTS = 200


class AlignmentModule(L.LightningModule):
    """Trains a model with a loss: one loader item is one optimizer step.

    First, without gradient, what the examples of the step have in common: z0, statistics. Then loss and
    backward of each microbatch over the global count. So packing and the number of microbatches and of ranks
    change speed and memory, never the gradient.

    Args:
        loss: the loss.
        build: makes the model to train, with the critic if the loss has one.
        optim: the optimizer.
        num_steps: length of the plan.
        z0_per_microbatch: average the reference point over each microbatch, as the paper does, not over the
            step.
        starts_at_reference: whether `build` gives the reference itself, so that step 0 can be checked.
        dropout_seed: of what every step and rank drops; None where nothing is dropped.
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
        dropout_seed: int | None = None,
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
        self._dropout_seed = dropout_seed
        self._has_statistics = type(loss).statistics is not Loss.statistics

    def configure_model(self) -> None:
        """Build the model once, sharded where the strategy has a mesh."""
        if self.policy is None:
            self.policy = self._build()
            trains_all = all(weight.requires_grad for weight in self.policy.parameters())
            # frozen weights are left out of checkpoints, but a sharded one is written and read whole
            self.strict_loading = trains_all or self.device_mesh is not None
            if self.device_mesh is not None:
                shard(self.policy, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; a critic is a group of its own, so that its gradient is clipped apart from the policy's."""
        policy = self._policy()
        groups = [{"params": [weight for weight in policy.model.parameters() if weight.requires_grad]}]
        if policy.value_head is not None:
            groups.append({"params": list(policy.value_head.parameters())})
        optim = self._optim
        return torch.optim.AdamW(
            groups, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )

    def training_step(self, step: Step, batch_idx: int) -> None:
        """Take one optimizer step."""
        policy = self._policy().train()
        if self._dropout_seed is not None:  # of the step alone, so that a resumed run drops the same
            torch.manual_seed(int(digest([self._dropout_seed, batch_idx, self.global_rank])[:15], 16))
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self._learning_rate(batch_idx)
        constants = self._constants(step)
        denominator = self._denominator(step)
        sums = Sums()
        for index, microbatch in enumerate(step.microbatches):
            objective = self._objective(step, microbatch, constants, denominator, sums)
            total = policy(
                microbatch.rows,
                objective=objective,
                mismatched=microbatch.mismatched if microbatch.goes_on else None,
            )
            self._backward(total, synchronise=index == len(step.microbatches) - 1)
        metrics = self._reduce(sums, denominator)
        metrics["grad_norm"] = self._clip(optimizer)
        z0 = objective.constants.z0
        if z0 is not None and not self._z0_per_microbatch:
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

    @torch.no_grad()
    def _constants(self, step: Step) -> Constants:
        """Ask in a pass of its own what must be known before the first microbatch of several.

        A single one that is packed tells it on its way.
        """
        policy = self._policy()
        z0 = statistics = None
        alone = [part.mismatched for part in step.microbatches if not part.goes_on]
        if self.loss.uses_z0 and not self._z0_per_microbatch and alone:
            others = [
                logps_of(policy(rows), rows.reference, slice(None)) for rows in alone if rows is not None
            ]
            z0 = reference_point(others, self._sum_over_ranks, step.num_completions)
        if self._has_statistics and len(step.microbatches) > 1:
            parts = [(policy(part.rows), part) for part in step.microbatches]
            statistics = step_statistics(self.loss, parts, self._sum_over_ranks)
        return Constants(z0, statistics)

    def _objective(
        self, step: Step, microbatch: Microbatch, constants: Constants, denominator: float, sums: Sums
    ) -> MicrobatchLoss:
        """The loss of a microbatch, over the global count."""
        policy = self._policy()
        checks_start = self._checks_start and self.global_step == 0
        in_bfloat16 = next(policy.parameters()).dtype == torch.bfloat16
        in_bfloat16 |= torch.is_autocast_enabled(self.device.type)
        others = None
        if microbatch.mismatched is not None and not microbatch.goes_on:
            if checks_start or self._z0_per_microbatch:
                with torch.no_grad():
                    others = policy(microbatch.mismatched)
        return MicrobatchLoss(
            loss=self.loss,
            microbatch=microbatch,
            # strategies average gradients over ranks; ours is a sum over the global count
            scale=self.trainer.world_size / denominator,
            constants=constants,
            others=others,
            num_completions=None if self._z0_per_microbatch else step.num_completions,
            has_statistics=self._has_statistics,
            checks_start=checks_start,
            in_bfloat16=in_bfloat16,
            sum_over_ranks=self._sum_over_ranks,
            sums=sums,
        )

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

    def _reduce(self, sums: Sums, denominator: float) -> dict[str, float]:
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
            for logger in self.loggers:  # self.log averages and collects, which costs a sixth of a small step
                logger.log_metrics(metrics, step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves with the weights that are trained, so that a resumed run records the same."""
        if not self.strict_loading:
            trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
            checkpoint["state_dict"] = {
                name: weight for name, weight in checkpoint["state_dict"].items() if name in trained
            }
        checkpoint["halobench"] = {
            "curves": [list(row) for row in self.curves],
            "num_tokens": self.num_tokens,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the curves up again."""
        self.curves = [tuple(row) for row in checkpoint["halobench"]["curves"]]
        self.num_tokens = checkpoint["halobench"]["num_tokens"]
