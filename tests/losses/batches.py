"""Small batches of every type, for tests of losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

import halobench as hb

BUILTIN = [name for name in hb.LOSSES if hb.LOSSES.is_builtin(name)]


def sequence(log_ratio: Any, *, policy: Any = None, dtype: torch.dtype = torch.float64) -> hb.Logps:
    """Completions of three tokens with these log ratios, or these log-probabilities and no reference."""
    given = torch.as_tensor(log_ratio if policy is None else policy)
    leaf = given if given.requires_grad else given.to(dtype)
    return hb.Logps.from_sequence(
        policy=leaf,
        reference=torch.zeros_like(leaf, requires_grad=False) if policy is None else None,
        num_tokens=torch.full((len(leaf),), 3),
    )


def random_logps(num_rows: int, *, seed: int, width: int = 5) -> hb.Logps:
    """Completions of 1 to `width` tokens, float64, a policy near its reference, and values."""
    stream = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (num_rows, 1), generator=stream)
    lengths[0] = width
    reference, noise, values = torch.randn(3, num_rows, width, dtype=torch.float64, generator=stream)
    mask = torch.arange(width) < lengths
    reference = -reference.abs()
    return hb.Logps(
        policy=((reference + noise / 4) * mask).requires_grad_(),
        reference=reference * mask,
        mask=mask,
        values=(values * mask).requires_grad_(),
    )


def take(logps: hb.Logps, rows: Any) -> hb.Logps:
    """Some of the rows, in that order."""
    parts = {name: getattr(logps, name)[rows] for name in ("policy", "reference", "mask", "values")}
    return hb.Logps(**parts)


def widen(logps: hb.Logps, columns: int) -> hb.Logps:
    """The same completions with more columns of padding, which hold anything."""
    grown = {
        name: torch.nn.functional.pad(getattr(logps, name), (0, columns), value=-7.0)
        for name in ("policy", "reference", "values")
    }
    return hb.Logps(mask=torch.nn.functional.pad(logps.mask, (0, columns)), **grown)


def batch_for(loss: hb.Loss, first: hb.Logps, second: hb.Logps, desirable: torch.Tensor) -> Any:
    """The batch type that `loss` is annotated with; only pairs have a second side."""
    match loss.view().__name__:
        case "Pairs":
            return hb.Pairs(chosen=first, rejected=second)
        case "Binary":
            batch = hb.Binary(
                completion=first, desirable=desirable, z0=torch.tensor(0.3, dtype=torch.float64)
            )
            return replace(batch, statistics=loss.statistics(batch))
        case "Conditional":
            return hb.Conditional(completion=first, desirable=desirable)
        case _:
            return hb.Demonstrations(completion=first)
