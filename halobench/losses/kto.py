"""KTO: Kahneman-Tversky's value of an implied reward, relative to a reference point."""

from __future__ import annotations

from torch import sigmoid, where

from halobench.losses.base import Binary, Loss, LossOutput, NonNegative, Positive, register_loss


@register_loss("kto", source="Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1")
class KTO(Loss):
    """Kahneman-Tversky optimization on binary feedback.

    L = lambda_y * sigmoid(-s_y * beta * (r - z0)), r = log pi_theta(y | x) - log pi_ref(y | x)

    with s = +1, lambda = lambda_d for a desirable y and s = -1, lambda = lambda_u for an undesirable one.
    This is the paper's lambda_y - v(x, y), written with sigmoid(-z) because 1 - sigmoid(z) loses its gradient
    in float32.

    Attributes:
        beta: how fast the value saturates away from z0; larger stays closer to the reference.
        lambda_d: weight of desirable completions. With n_d and n_u of them, the paper keeps
            lambda_d n_d / (lambda_u n_u) between 1 and 3/2.
        lambda_u: weight of undesirable completions.
    """

    beta: Positive = 0.1
    lambda_d: NonNegative = 1.0
    lambda_u: NonNegative = 1.0

    def __call__(self, batch: Binary) -> LossOutput:
        """Return (B,) losses, half the weight each when the policy is the reference; rewards are beta * r."""
        reward = self.beta * batch.completion.log_ratio
        gain = reward - self.beta * batch.reference_point  # over the reference point
        losses = where(batch.desirable, self.lambda_d * sigmoid(-gain), self.lambda_u * sigmoid(gain))
        return LossOutput(losses=losses, rewards=reward.detach())
