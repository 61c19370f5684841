"""Conditional SFT: imitate every completion after a control token that tells its label."""

from __future__ import annotations

from typing import ClassVar, Literal

from halobench.losses.base import Conditional, Loss, LossOutput, register_loss


@register_loss("csft", source="Korbak et al. 2023, arXiv:2302.08582; as compared in arXiv:2402.01306")
class CSFT(Loss):
    """Conditional supervised fine-tuning on desirable and undesirable completions alike.

    L = -sum_y log pi_theta(y | x, c) / (number of tokens of the step), c = <good> or <bad> by the label of y

    The policy is asked with <good> when it generates. A prompt ends in exactly one control token, whatever
    the epoch.

    Attributes:
        score_control: predict c too (log pi_theta(c, y | x)), as the HALOs code does; by default c is only a
            condition.
    """

    needs_reference: ClassVar[bool] = False
    control_tokens: ClassVar[tuple[str, ...]] = ("<good>", "<bad>")
    per: ClassVar[Literal["example", "token"]] = "token"

    score_control: bool = False

    def __call__(self, batch: Conditional) -> LossOutput:
        """Return (B,) negative log-likelihoods in nats, summed over the tokens of each completion."""
        return LossOutput(losses=-batch.completion.sequence)

    @property
    def scores_control_token(self) -> bool:
        """Whether the control token belongs to the scored completion."""
        return self.score_control
