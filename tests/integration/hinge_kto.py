"""KTO with a hinge value function: gains count linearly up to `margin`."""

from torch import relu, where

from halobench import Binary, Loss, LossOutput, Positive, register_loss


@register_loss("hinge_kto", source="this file")
class HingeKTO(Loss):
    """KTO with a hinge.

    L = max(0, margin - s_y * beta * (r - z0))

    Attributes:
        beta: inverse temperature of the implied reward.
        margin: gain at which an example stops contributing.
    """

    beta: Positive = 0.1
    margin: Positive = 1.0

    def __call__(self, batch: Binary) -> LossOutput:
        """Return (B,) losses."""
        reward = self.beta * batch.completion.log_ratio
        gain = where(batch.desirable, reward - self.beta * batch.z0, self.beta * batch.z0 - reward)
        return LossOutput(losses=relu(self.margin - gain), rewards=reward.detach())
