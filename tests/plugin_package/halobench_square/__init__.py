"""A loss in a package of its own."""

from halobench import Loss, LossOutput, Pairs, Positive, register_loss


@register_loss("square", source="this package")
class Square(Loss):
    """Pull the difference of the log ratios towards a target.

    L = (r_w - r_l - weight)^2

    Attributes:
        weight: the target in nats.
    """

    weight: Positive = 1.0

    def __call__(self, batch: Pairs) -> LossOutput:
        """Return (B,) losses."""
        return LossOutput(losses=(batch.chosen.log_ratio - batch.rejected.log_ratio - self.weight).square())
