"""SFT: imitate the demonstrations."""

from __future__ import annotations

from typing import ClassVar, Literal

from halobench.losses.base import Demonstrations, Loss, LossOutput, register_loss


@register_loss("sft", source="maximum likelihood; the baseline of arXiv:2402.01306, section 4")
class SFT(Loss):
    """Supervised fine-tuning: the negative log-likelihood of the demonstrations, a mean over tokens.

    L = -sum_y log pi_theta(y | x) / (number of tokens of the step)
    """

    needs_reference: ClassVar[bool] = False
    per: ClassVar[Literal["example", "token"]] = "token"

    def __call__(self, batch: Demonstrations) -> LossOutput:
        """Return (B,) negative log-likelihoods in nats, summed over the tokens of each completion."""
        return LossOutput(losses=-batch.completion.sequence)
