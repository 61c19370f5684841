"""The check at step 0: where training starts from the reference, every log ratio must be zero."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from halobench.errors import TrainingError
from halobench.losses.base import Batch, Logps, Loss, Pairs

_RELATIVE = 1e-3


def check_start(loss: Loss, batch: Batch, mismatched: Logps | None) -> None:
    """Compare the loss with the cached reference against the loss with the policy itself as reference.

    |log pi_theta(y | x) - log pi_ref(y | x)| <= 1e-3 sqrt(|log pi_theta(y | x)|), for every completion

    Args:
        loss: the loss about to be trained.
        batch: the first microbatch, with the cached reference.
        mismatched: its mismatched completions behind z0, or None.

    Raises:
        TrainingError: the cache does not belong to this model: other weights, other tokens, another template.
    """
    parts = [batch.chosen, batch.rejected] if isinstance(batch, Pairs) else [batch.completion]
    found = [*parts, *([mismatched] if mismatched is not None else [])]
    scored = [part.num_tokens > 0 for part in found]
    ratios = torch.cat([part.log_ratio[keep].abs() for part, keep in zip(found, scored, strict=True)])
    sizes = torch.cat([part.sequence[keep].abs() for part, keep in zip(found, scored, strict=True)])
    excess = ratios > _RELATIVE * sizes.sqrt()
    if bool(excess.any()):
        worst = int(torch.argmax(ratios))
        cached, live = (loss(each).losses.mean() for each in (batch, _with_itself_as_reference(batch)))
        raise TrainingError(
            f"step 0: the cached reference and the model it was made from disagree on {int(excess.sum())} of "
            f"{len(ratios)} completions, by up to {float(ratios[worst]):.3g} nats of "
            f"{float(sizes[worst]):.3g} (loss {float(cached):.6g} with the cache, {float(live):.6g} with "
            "the model itself); remove the artifacts with `halobench clean` and run again"
        )


def _with_itself_as_reference(batch: Batch) -> Batch:
    if isinstance(batch, Pairs):
        return Pairs(chosen=_itself(batch.chosen), rejected=_itself(batch.rejected))
    return replace(batch, completion=_itself(batch.completion))


def _itself(logps: Logps) -> Logps:
    policy: Float[Tensor, "batch tokens"] = logps.policy.detach()
    return replace(logps, reference=policy)
