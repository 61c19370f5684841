"""DPO: a logistic regression on the difference of implied rewards within a pair."""

from __future__ import annotations

from torch import stack
from torch.nn.functional import logsigmoid

from halobench.losses.base import Loss, LossOutput, Pairs, Positive, register_loss


@register_loss("dpo", source="Rafailov et al. 2023, arXiv:2305.18290, equation 7")
class DPO(Loss):
    """Direct preference optimization.

    L = -log sigmoid(beta * (r_w - r_l)), r = log pi_theta(y | x) - log pi_ref(y | x)

    Attributes:
        beta: inverse temperature of the implied reward; larger stays closer to the reference.
    """

    beta: Positive = 0.1

    def __call__(self, batch: Pairs) -> LossOutput:
        """Return (B,) losses, ln 2 each when the policy is the reference; rewards (B, 2) are beta * r."""
        chosen = self.beta * batch.chosen.log_ratio
        rejected = self.beta * batch.rejected.log_ratio
        return LossOutput(
            losses=-logsigmoid(chosen - rejected), rewards=stack([chosen, rejected], -1).detach()
        )
