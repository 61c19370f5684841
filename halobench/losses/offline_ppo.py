"""Offline PPO: clipped policy gradient on fixed completions with rewards of plus and minus one."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor

from halobench.errors import RecipeError
from halobench.losses.base import Binary, Fraction, Loss, LossOutput, NonNegative, Positive, register_loss

# The published versions differ in four places; the numbers are facts about them, not recommendations.
_DISCOUNTED = {"gamma": 0.99, "gae_lambda": 0.95}
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "v1": {**_DISCOUNTED, "kl": "log_ratio"},
    "legacy": {
        **_DISCOUNTED,
        "clip_low": 0.5,
        "clip_high": 2.0,
        "own_reward": False,
        "kl": "negative_log_ratio",
    },
    "main": {**_DISCOUNTED, "clip_low": 0.5, "clip_high": 1.5, "kl": "log_ratio"},
}
_LARGEST_LOG_RATIO = 20.0  # exp of more overflows float32 and turns a clipped, zero gradient into NaN
_LEAST_CREDIT = 0.1


@register_loss(
    "offline_ppo", source="Schulman et al. 2017, arXiv:1707.06347; offline form of arXiv:2402.01306"
)
class OfflinePPO(Loss):
    """PPO-Clip with the reference as the old policy and a reward on the last token only.

    L = sum_t max(-A_t q_t, -A_t clip(q_t, clip_low, clip_high))
        + value_weight * (V_t - G_t)^2 / 2 + kl_weight * KL_t, over the number of tokens of the step

    q_t = pi_theta(y_t) / pi_ref(y_t); the reward is +lambda_d or -lambda_u at the last token; A_t are
    generalised advantages whitened over the whole step, G_t discounted returns, V_t a critic that reads
    detached hidden states.

    Attributes:
        preset: "default" has no KL term and gamma = gae_lambda = 1; "v1", "legacy" and "main" are the paper's
            first version and the two published codes. Parameters given beside it win.
        clip_low: lower clip of the ratio q_t.
        clip_high: upper clip of the ratio q_t.
        gamma: discount per token.
        gae_lambda: decay of the advantage per token.
        own_reward: whether G_t includes the reward of token t itself.
        value_weight: weight of the critic's error.
        kl: what is added as KL_t, with rho = log q_t on the data's tokens: "none"; "ratio" (q rho - q + 1,
            unbiased when the data are samples of the reference); "log_ratio" (rho: minimising it lowers the
            likelihood of all data, the desirable too); "negative_log_ratio" (-rho: raises it).
        kl_weight: weight of KL_t.
        lambda_d: size of the reward of a desirable completion.
        lambda_u: size of the penalty of an undesirable completion.
    """

    needs_z0: ClassVar[bool] = False
    value_head: ClassVar[bool] = True
    per: ClassVar[Literal["example", "token"]] = "token"

    preset: Literal["default", "v1", "legacy", "main"] = "default"
    clip_low: Positive = 0.25
    clip_high: Positive = 4.0
    gamma: Fraction = 1.0
    gae_lambda: Fraction = 1.0
    own_reward: bool = True
    value_weight: NonNegative = 0.01
    kl: Literal["none", "ratio", "log_ratio", "negative_log_ratio"] = "none"
    kl_weight: NonNegative = 0.1
    lambda_d: NonNegative = 1.0
    lambda_u: NonNegative = 1.0

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        return PRESETS.get(str(parameters.get("preset", "default")), {}) | parameters

    def statistics(self, batch: Binary) -> Float[Tensor, 3]:
        """Return (3,) number of tokens, sum and sum of squares of the unwhitened advantages."""
        self._warn_of_faint_credit(batch.completion.num_tokens)
        mask = batch.completion.mask
        advantage = self._advantage(batch) * mask
        return torch.stack([mask.sum().double(), advantage.sum(), advantage.square().sum()])

    def __call__(self, batch: Binary) -> LossOutput:
        """Return (B,) losses, summed over tokens; rewards (B,) are the summed log ratios in nats."""
        logps = batch.completion
        mask, log_ratio = logps.mask, logps.token_log_ratio
        ratio = log_ratio.clamp(max=_LARGEST_LOG_RATIO).exp()  # (B, T)
        num_tokens, total, total_squares = _given(batch.statistics, "statistics").unbind()
        num_tokens = num_tokens.clamp(min=1)  # a step that holds only repeats has none
        mean = total / num_tokens
        variance = total_squares / num_tokens - mean.square()
        advantage = (self._advantage(batch) - mean) * (variance.clamp(min=0) + 1e-8).rsqrt()

        surrogate = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(self.clip_low, self.clip_high))
        critic = (self._values(batch) - self._value_target(batch)).square() / 2
        penalty = {
            "none": torch.zeros_like(log_ratio),
            "ratio": ratio * log_ratio - ratio + 1,
            "log_ratio": log_ratio,
            "negative_log_ratio": -log_ratio,
        }[self.kl]
        losses = ((surrogate + self.value_weight * critic + self.kl_weight * penalty) * mask).sum(-1)
        clipped = ((ratio < self.clip_low) | (ratio > self.clip_high)) & mask
        return LossOutput(
            losses=losses,
            rewards=logps.log_ratio.detach(),
            metrics={"clipped_fraction": clipped.sum(-1) / mask.sum(-1).clamp(min=1)},
        )

    def _reward(self, batch: Binary) -> Float[Tensor, "batch tokens"]:
        """(B, T) the label's reward at the last token, zero before."""
        mask = batch.completion.mask
        is_last = torch.arange(mask.shape[1], device=mask.device) == mask.sum(-1, keepdim=True) - 1  # (B, T)
        sign = torch.where(batch.desirable, self.lambda_d, -self.lambda_u)
        return sign.double()[:, None] * is_last

    def _advantage(self, batch: Binary) -> Float[Tensor, "batch tokens"]:
        """(B, T) A_t = sum_k (gamma gae_lambda)^k (r + gamma V_next - V) at t + k."""
        values = self._values(batch).detach() * batch.completion.mask
        following = torch.nn.functional.pad(values[:, 1:], (0, 1))
        error = self._reward(batch) + self.gamma * following - values
        return discounted_sum(error, self.gamma * self.gae_lambda)

    def _values(self, batch: Binary) -> Float[Tensor, "batch tokens"]:
        return _given(batch.completion.values, "values").double()

    def _value_target(self, batch: Binary) -> Float[Tensor, "batch tokens"]:
        """(B, T) G_t = sum_k gamma^k r_{t+k}, or the same from the next token on."""
        target = discounted_sum(self._reward(batch), self.gamma)
        return target if self.own_reward else torch.nn.functional.pad(target[:, 1:], (0, 1))

    def _warn_of_faint_credit(self, num_tokens: Int[Tensor, " batch"]) -> None:
        median = float(num_tokens.double().median())
        credit = (self.gamma * self.gae_lambda) ** median
        if credit < _LEAST_CREDIT:
            warnings.warn(
                f"offline_ppo: with gamma * gae_lambda = {self.gamma * self.gae_lambda:.4g} the first of "
                f"{median:.0f} tokens gets {credit:.1g} of the reward; preset 'default' credits all alike",
                stacklevel=2,
            )


def _given(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise RecipeError(
            f"offline_ppo reads {name}, which this batch does not have; its training makes them"
        )
    return tensor


def discounted_sum(terms: Float[Tensor, "batch tokens"], rate: float) -> Float[Tensor, "batch tokens"]:
    """Sum what follows, discounted: out_t = sum_k rate^k terms_{t+k}.

    Args:
        terms: (B, T) float64.
        rate: discount per token, in [0, 1].

    Returns:
        (B, T) float64.
    """
    steps = torch.arange(terms.shape[1], device=terms.device)
    distance = steps[:, None] - steps  # (T, T) how far row t' lies behind column t
    weights = torch.where(distance >= 0, torch.tensor(rate, dtype=terms.dtype) ** distance.clamp(min=0), 0.0)
    return terms @ weights
