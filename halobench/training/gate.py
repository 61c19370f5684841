"""The check at step 0: where training starts from the reference, every log ratio must be zero."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from halobench.errors import TrainingError
from halobench.losses.base import Batch, Logps, Loss, Pairs

# of the square root of the log-probability; in bfloat16 another batch shape alone makes 0.02 of it
_TOLERANCE = 1e-3
_TOLERANCE_BFLOAT16 = 5e-2


def check_start(loss: Loss, batch: Batch, mismatched: Logps | None, *, in_bfloat16: bool) -> None:
    """Compare the loss with the cached reference against the loss with the policy itself as reference.

    |log pi_theta(y | x) - log pi_ref(y | x)| <= 1e-3 sqrt(|log pi_theta(y | x)|), for every completion
    (5e-2 in bfloat16)

    Args:
        loss: the loss about to be trained.
        batch: the first microbatch, with the cached reference.
        mismatched: its mismatched completions behind z0, or None.
        in_bfloat16: whether the model computes in it.

    Raises:
        TrainingError: the cache does not belong to this model: other weights, other tokens, another template.
    """
    parts = [batch.chosen, batch.rejected] if isinstance(batch, Pairs) else [batch.completion]
    found = [*parts, *([mismatched] if mismatched is not None else [])]
    scored = [part.num_tokens > 0 for part in found]
    ratios = (
        torch.cat([part.log_ratio[keep] for part, keep in zip(found, scored, strict=True)]).detach().abs()
    )
    sizes = torch.cat([part.sequence[keep] for part, keep in zip(found, scored, strict=True)]).detach().abs()
    excess = ratios > (_TOLERANCE_BFLOAT16 if in_bfloat16 else _TOLERANCE) * sizes.sqrt()
    if bool(excess.any()):
        worst = int(torch.argmax(ratios))
        batches = (batch, _with_itself_as_reference(batch))
        cached, live = (float(loss(each).losses.detach().mean()) for each in batches)
        raise TrainingError(
            f"step 0: the cached reference and the model it was made from disagree on {int(excess.sum())} of "
            f"{len(ratios)} completions, by up to {float(ratios[worst]):.3g} nats of "
            f"{float(sizes[worst]):.3g} (loss {cached:.6g} with the cache, {live:.6g} with "
            "the model itself); remove the artifacts with `halobench clean` and run again"
        )


def _with_itself_as_reference(batch: Batch) -> Batch:
    if isinstance(batch, Pairs):
        return Pairs(chosen=_itself(batch.chosen), rejected=_itself(batch.rejected))
    return replace(batch, completion=_itself(batch.completion))


def _itself(logps: Logps) -> Logps:
    policy: Float[Tensor, "batch tokens"] = logps.policy.detach()
    return replace(logps, reference=policy)
