"""KTO: Kahneman-Tversky's value of an implied reward, relative to a reference point."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from torch import sigmoid, where

from halobench.errors import DataError
from halobench.losses.base import Binary, Loss, LossOutput, NonNegative, Positive, register_loss

_PRESETS: dict[float | str, float] = {"kto_paper_v1": 4 / 3, "kto_paper_v4": 3 / 2}


@register_loss("kto", source="Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1")
class KTO(Loss):
    """Kahneman-Tversky optimization on binary feedback.

    L = lambda_y * sigmoid(-s_y * beta * (r - z0)), r = log pi_theta(y | x) - log pi_ref(y | x)

    with s = +1, lambda = lambda_d for a desirable y and s = -1, lambda = lambda_u for an undesirable one.
    This is the paper's lambda_y - v(x, y), written with sigmoid(-z) because 1 - sigmoid(z) loses its gradient
    in float32.

    Attributes:
        beta: how fast the value saturates away from z0; larger stays closer to the reference.
        lambda_d: weight of desirable completions.
        lambda_u: weight of undesirable completions.
        lambda_ratio: what lambda_d n_d / (lambda_u n_u) is to be, with n_d and n_u completions of a label;
            the rarer label gets the weight and the other 1. The paper keeps it between 1 and 4/3
            ("kto_paper_v1", its first version) or 3/2 ("kto_paper_v4"). None leaves the weights alone.
    """

    beta: Positive = 0.1
    lambda_d: NonNegative = 1.0
    lambda_u: NonNegative = 1.0
    lambda_ratio: Positive | Literal["kto_paper_v1", "kto_paper_v4"] | None = None

    @model_validator(mode="after")
    def _weigh_once(self) -> KTO:
        if self.lambda_ratio is not None and (self.lambda_d, self.lambda_u) != (1.0, 1.0):
            raise ValueError("lambda_ratio sets lambda_d and lambda_u; leave them out")
        return self

    def fitted(self, num_desirable: int, num_undesirable: int) -> KTO:
        """Return the loss with the weights that make up for unequal numbers of the two labels."""
        if self.lambda_ratio is None:
            return self
        if not num_desirable or not num_undesirable:
            raise DataError(
                f"loss.lambda_ratio = {self.lambda_ratio!r}: there are {num_desirable} desirable and "
                f"{num_undesirable} undesirable completions, and it needs both; leave it out"
            )
        ratio = _PRESETS.get(self.lambda_ratio, self.lambda_ratio)
        lambda_d = float(ratio) * num_undesirable / num_desirable
        weights = {"lambda_d": max(1.0, lambda_d), "lambda_u": max(1.0, 1 / lambda_d)}
        return self.model_copy(update={**weights, "lambda_ratio": None})

    def __call__(self, batch: Binary) -> LossOutput:
        """Return (B,) losses, half the weight each when the policy is the reference; rewards are beta * r.

        Raises:
            ValueError: lambda_ratio is given, and `fitted` was not asked for the weights.
        """
        if self.lambda_ratio is not None:
            raise ValueError("KTO with a lambda_ratio has no weights before fitted(...) has made them")
        reward = self.beta * batch.completion.log_ratio
        gain = reward - self.beta * batch.reference_point  # over the reference point
        losses = where(batch.desirable, self.lambda_d * sigmoid(-gain), self.lambda_u * sigmoid(gain))
        return LossOutput(losses=losses, rewards=reward.detach())
