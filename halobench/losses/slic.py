"""SLiC-HF: a margin between the log-probabilities of chosen and rejected, held by likelihood."""

from __future__ import annotations

from typing import ClassVar

from torch import relu, stack

from halobench.losses.base import Loss, LossOutput, NonNegative, Pairs, register_loss


@register_loss("slic", source="Zhao et al. 2023, arXiv:2305.10425; defaults of arXiv:2402.01306's code")
class SLiC(Loss):
    """Sequence likelihood calibration on summed log-probabilities, without a reference.

    L = max(0, delta - log pi_theta(y_w | x) + log pi_theta(y_l | x)) - nll_weight * log pi_theta(y_w | x)

    Attributes:
        delta: margin in nats that the chosen completion must lead by.
        nll_weight: weight of the chosen completion's negative log-likelihood, the regulariser.
    """

    needs_reference: ClassVar[bool] = False

    delta: NonNegative = 1.0
    nll_weight: NonNegative = 0.1

    def __call__(self, batch: Pairs) -> LossOutput:
        """Return (B,) losses in nats; rewards (B, 2) are the summed log-probabilities."""
        chosen, rejected = batch.chosen.sequence, batch.rejected.sequence
        losses = relu(self.delta - chosen + rejected) - self.nll_weight * chosen
        return LossOutput(losses=losses, rewards=stack([chosen, rejected], -1).detach())
