"""Training a tiny random Llama on random rows, without a recipe, and one optimizer step by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

import halobench as hb
from halobench.data.batches import Step, make_step
from halobench.data.rows import Row
from halobench.models.logprobs import ScoredModel, ValueHead
from halobench.sections import Optim
from halobench.training.module import AlignmentModule
from halobench.training.sampler import StepLoader
from tests.models.tiny import logps_by_hand, random_row, tiny_llama

Units = list[tuple[Row, ...]]
ADAM_EPSILON = 1e-8


def random_units(num_units: int, *, seed: int, offset: float = 0.0) -> Units:
    """Pairs of rows of different lengths; the reference is the model and noise, `offset` nats up a token."""
    stream, model = random.Random(seed), tiny_llama()
    units = []
    for _ in range(num_units):
        unit = []
        for desirable in (True, False):
            row = random_row(stream, stream.randint(1, 6), stream.randint(1, 7), desirable=desirable)
            with torch.no_grad():
                exact = logps_by_hand(model, row)
            noise = torch.tensor([stream.gauss(offset, 0.3) for _ in row.completion])
            unit.append(row._replace(reference=(exact + noise).float().numpy()))
        units.append(tuple(unit))
    return units


def chosen_only(units: Units) -> Units:
    """Demonstrations: the first row of each unit, without a reference."""
    return [(unit[0]._replace(reference=None),) for unit in units]


def critic() -> ValueHead:
    """The critic of every test."""
    return ValueHead(16, seed=3).double()


def fit(loss: hb.Loss, steps: Sequence[Step], optim: Optim, **options: Any) -> AlignmentModule:
    """Train the tiny Llama of seed 0 in float64 on the steps."""
    module = AlignmentModule(
        loss,
        lambda: ScoredModel(tiny_llama(), critic() if loss.value_head else None),
        optim,
        num_steps=len(steps),
        **{"starts_at_reference": False} | options,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=len(steps),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, StepLoader(len(steps), steps.__getitem__))
    return module


def split(units: Units, mismatched: Units | None, per_step: int, max_tokens: int) -> list[Step]:
    """Steps of so many units, in microbatches of at most so many tokens."""
    return [
        make_step(
            units[start : start + per_step],
            None if mismatched is None else mismatched[start : start + per_step],
            max_tokens=max_tokens,
        )
        for start in range(0, len(units), per_step)
    ]


def parameters(module: AlignmentModule) -> list[torch.Tensor]:
    """Weights of the policy, then of the critic."""
    return [parameter.detach() for parameter in module.policy.parameters()]


def curve(module: AlignmentModule, metric: str) -> list[float]:
    """Values of a metric, step by step."""
    return [value for _, _, name, value in module.curves if name == metric]


def adam_step(weights: list[torch.Tensor], loss: torch.Tensor, optim: Optim) -> list[torch.Tensor]:
    """The first step of AdamW on a gradient clipped by its norm: m / sqrt(v) is g / |g|."""
    gradients = torch.autograd.grad(loss, weights)
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    scale = min(1.0, optim.clip / (norm.item() + 1e-6))  # torch's own 1e-6
    return [
        (
            (1 - optim.lr * optim.weight_decay) * weight
            - optim.lr * scale * gradient / (scale * gradient.abs() + ADAM_EPSILON)
        ).detach()
        for weight, gradient in zip(weights, gradients, strict=True)
    ]
