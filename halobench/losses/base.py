"""What a loss is given and what it returns: log-probabilities, the four batch types, `Loss`."""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from halobench.errors import RecipeError
from halobench.registry import LOSSES
from halobench.validation import explain

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Logps:
    """Log-probabilities of completions, per token, in nats.

    Args:
        policy: (B, T) log pi_theta(y_t | x, y_<t); carries the gradient.
        reference: (B, T) the same under the reference, without gradient; None where the loss needs none.
        mask: (B, T) True at the scored tokens of the completion, which come first; the rest is padding.
        values: (B, T) critic's estimate at each token, before it is chosen; None without a value head.
        counts: (B,) number of scored tokens, where a column of `policy` is not one token (`from_sequence`).
    """

    policy: Float[Tensor, "batch tokens"]
    reference: Float[Tensor, "batch tokens"] | None
    mask: Bool[Tensor, "batch tokens"]
    values: Float[Tensor, "batch tokens"] | None = None
    counts: Int[Tensor, " batch"] | None = None

    @classmethod
    def from_sequence(
        cls,
        *,
        policy: Float[Tensor, " batch"],
        reference: Float[Tensor, " batch"] | None,
        num_tokens: Int[Tensor, " batch"],
    ) -> Logps:
        """Wrap sums over whole completions, for losses that do not look at single tokens.

        Args:
            policy: (B,) log pi_theta(y | x), nats.
            reference: (B,) log pi_ref(y | x), nats, or None.
            num_tokens: (B,) number of scored tokens of each completion.
        """
        return cls(
            policy=policy[:, None],
            reference=None if reference is None else reference[:, None],
            mask=torch.ones_like(policy[:, None], dtype=torch.bool),
            counts=num_tokens,
        )

    @property
    def sequence(self) -> Float[Tensor, " batch"]:
        """(B,) log pi_theta(y | x) in nats, summed in float64: a float32 sum of -1000 nats is off by 1e-4."""
        return (self.policy.double() * self.mask).sum(-1)

    @property
    def log_ratio(self) -> Float[Tensor, " batch"]:
        """(B,) log pi_theta(y | x) - log pi_ref(y | x) in nats, summed in float64."""
        return self.token_log_ratio.sum(-1)

    @property
    def token_log_ratio(self) -> Float[Tensor, "batch tokens"]:
        """(B, T) log pi_theta - log pi_ref of each token in nats, float64, zero at padding.

        Raises:
            RecipeError: there are no reference log-probabilities.
        """
        if self.reference is None:
            raise RecipeError("this loss reads log_ratio but says needs_reference = False; set it to True")
        return (self.policy.double() - self.reference.double()) * self.mask

    @property
    def num_tokens(self) -> Int[Tensor, " batch"]:
        """(B,) number of scored tokens."""
        return self.mask.sum(-1) if self.counts is None else self.counts


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Preference pairs: two completions of each prompt, the first preferred.

    Args:
        chosen: (B, T) log-probabilities of the preferred completions.
        rejected: (B, T') log-probabilities of the others, row by row of the same prompts.
    """

    chosen: Logps
    rejected: Logps


@dataclass(frozen=True, kw_only=True)
class Binary:
    """Completions with a thumb up or down each.

    Args:
        completion: (B, T) log-probabilities.
        desirable: (B,) True for a thumb up.
        z0: scalar, reference point in nats: the mean log ratio of mismatched pairs over the whole optimizer
            step and all ranks, clamped at zero, detached. None where the loss says `needs_z0 = False`.
        statistics: (k,) what `Loss.statistics` returned, summed over the optimizer step and all ranks.
    """

    completion: Logps
    desirable: Bool[Tensor, " batch"]
    z0: Float[Tensor, ""] | None = None
    statistics: Float[Tensor, " k"] | None = None

    @property
    def reference_point(self) -> Float[Tensor, ""]:
        """Scalar z0 in nats.

        Raises:
            RecipeError: the batch carries none.
        """
        if self.z0 is None:
            raise RecipeError("this loss reads z0 but got none; set needs_z0 = True, or give Binary(z0=...)")
        return self.z0


@dataclass(frozen=True, kw_only=True)
class Conditional:
    """Completions whose prompt ends in the control token of their label.

    Args:
        completion: (B, T) log-probabilities given the prompt and the control token.
        desirable: (B,) True for a thumb up.
    """

    completion: Logps
    desirable: Bool[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """Completions to imitate.

    Args:
        completion: (B, T) log-probabilities.
    """

    completion: Logps


Batch = Pairs | Binary | Conditional | Demonstrations


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """What a loss returns, one entry per example; the caller divides by the global count.

    Args:
        losses: (B,) loss of each example; with `per = "token"` the sum over its tokens.
        rewards: the loss's own reward, detached, for the training curves: (B,), or (B, 2) as chosen,
            rejected.
        metrics: (B,) each, detached, averaged over the step for the training curves.
    """

    losses: Float[Tensor, " batch"]
    rewards: Float[Tensor, " batch"] | Float[Tensor, "batch 2"] | None = None
    metrics: Mapping[str, Float[Tensor, " batch"]] = field(default_factory=dict)


class Loss(BaseModel, ABC):
    """An alignment loss: annotated fields are its parameters, `__call__` its equation.

    A loss never reduces, logs, moves devices or talks to other ranks. The annotation of `__call__` (`Pairs`,
    `Binary`, `Conditional` or `Demonstrations`) chooses the view of the data it is trained on. A loss whose
    examples depend on each other beyond z0 and `statistics` says `separable = False`; any other is given the
    examples of a step in parts.

    Raises:
        RecipeError: a parameter is unknown, missing or out of range; one line per problem.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    needs_reference: ClassVar[bool] = True
    needs_z0: ClassVar[bool] = True
    value_head: ClassVar[bool] = False
    control_tokens: ClassVar[tuple[str, ...]] = ()
    per: ClassVar[Literal["example", "token"]] = "example"
    separable: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self, **parameters: Any) -> None:
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise RecipeError(*explain(error, type(self), f"{type(self).__name__}.")) from error

    @abstractmethod
    def __call__(self, batch: Any) -> LossOutput:
        """Return the loss of each example of `batch`, unreduced."""

    def statistics(self, batch: Any) -> Float[Tensor, " k"] | None:
        """Return (k,) sums over the examples that the loss needs of the whole step, or None."""
        return None

    def fitted(self, num_desirable: int, num_undesirable: int) -> Loss:
        """Return the loss with what it takes from the numbers of distinct completions that it is shown.

        Raises:
            DataError: it cannot do with so few.
        """
        return self

    @property
    def scores_control_token(self) -> bool:
        """Whether the control token belongs to the scored completion, instead of ending the prompt."""
        return False

    @classmethod
    def view(cls) -> type[Pairs] | type[Binary] | type[Conditional] | type[Demonstrations]:
        """Return the batch type that `__call__` is annotated with.

        Raises:
            RecipeError: the annotation is missing or is no batch type.
        """
        annotation: Any = typing.get_type_hints(cls.__call__).get("batch")
        if annotation not in typing.get_args(Batch):
            raise RecipeError(
                f"{cls.__name__}.__call__: its parameter must be annotated `batch: Pairs`, `Binary`, "
                f"`Conditional` or `Demonstrations`, which chooses the data it is trained on; "
                f"found {annotation!r}"
            )
        return annotation  # type: ignore[no-any-return]

    @property
    def uses_z0(self) -> bool:
        """Whether batches of this loss carry the reference point z0."""
        return self.needs_z0 and self.view() is Binary


L = TypeVar("L", bound=Loss)


def register_loss(name: str, *, source: str) -> Callable[[type[L]], type[L]]:
    """Return a class decorator that makes a `Loss` known under `name`.

    Args:
        name: its name in recipes, on the command line and on the board.
        source: where it is described, for example "arXiv:2402.01306".

    Raises:
        RecipeError: the name is taken, or `__call__` is not annotated with a batch type.
    """
    register = LOSSES.register(name, source=source)

    def add(loss: type[L]) -> type[L]:
        loss.view()
        register(loss)
        return loss

    return add
