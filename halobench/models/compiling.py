"""torch.compile for what has no shape of its own: the MLPs and norms of the decoder layers."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from halobench.errors import TrainingError


def compile_layers(model: PreTrainedModel, **options: Any) -> None:
    """Have torch.compile make kernels of every decoder layer but for its attention, which is packed by us.

    A packed row has another number of tokens in every microbatch, so the kernels are made for any number. On
    two CPU cores they take a minute to make and win nothing; they are meant for GPUs, where nobody has
    measured them.

    Args:
        model: its modules are compiled in place; names of weights stay what they are.
        options: further arguments of torch.compile.

    Raises:
        TrainingError: the layers of this family cannot be told apart.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise TrainingError(
            f"execution.compile = True: {type(model).__name__} has no layers that can be told apart; set it "
            "to false"
        )
    for layer in layers:
        for child in layer.children():
            if "Attention" not in type(child).__name__:
                child.compile(dynamic=True, **options)
