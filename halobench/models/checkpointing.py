"""Gradient checkpointing: a layer keeps its input only, and its backward computes the rest again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from halobench.errors import TrainingError
from halobench.models.attention import attending


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Make every decoder layer of a model compute its activations again, as long as the model is in training.

    Raises:
        TrainingError: transformers cannot do it for this family.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise TrainingError(
            f"execution.gradient_checkpointing = True: {type(model).__name__} has no layers that can be "
            "computed again; set it to false"
        )
    again = partial(checkpoint, use_reentrant=False, context_fn=_same_attention(model))
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = again


def _same_attention(
    model: PreTrainedModel,
) -> Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]:
    """Contexts of a layer's two computations; by the second, the attention of the first is switched off."""

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), attending(model, model.config._attn_implementation)

    return contexts
