"""Low-rank adapters, by peft: put into a model before training, merged into plain weights after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from halobench.errors import TrainingError
from halobench.sections import Adapter


def in_four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """How QLoRA loads the frozen weights: normal floats of 4 bits, computed with in `dtype`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def add_adapter(
    model: PreTrainedModel, adapter: Adapter, *, tokens: Sequence[int], seed: int, base: str | None
) -> None:
    """Freeze a model but for an adapter inside it, which changes nothing yet: W + alpha / rank B A, B = 0.

    Args:
        model: stays of its class; its linear layers become peft's.
        adapter: which.
        tokens: control tokens, whose rows of the embeddings and the head are trained as well.
        seed: of A.
        base: id of the model on the Hub, for the adapter's configuration; None for one that has none.

    Raises:
        TrainingError: the model has no such layers.
    """
    from peft import LoraConfig

    targets = adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        trainable_token_indices=_rows(model, tokens),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model.add_adapter(config)
        except ValueError as error:
            raise TrainingError(
                f"adapter.targets = {targets!r}: {str(error).splitlines()[0]}; {type(model).__name__} has "
                f"{', '.join(_linear_names(model))}, or use all-linear"
            ) from None
    config.base_model_name_or_path = base  # not the folder, which is of this machine
    config.target_modules = sorted(config.target_modules)  # peft made a set of them
    model.eval()


def _rows(model: PreTrainedModel, tokens: Sequence[int]) -> dict[str, list[int]] | None:
    """The rows of the tokens by name of layer; a head that is tied follows the embeddings."""
    if not tokens:
        return None
    head = model.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise TrainingError(
            "adapter: control tokens cannot be added to a head with a bias; train all weights"
        )
    layers = [model.get_input_embeddings()]
    layers += [] if head.weight is layers[0].weight else [head]
    return {name: list(tokens) for name, module in model.named_modules() if any(module is o for o in layers)}


def _linear_names(model: PreTrainedModel) -> list[str]:
    names = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    return sorted(names)


def save_adapter(folder: Path, model: PreTrainedModel, weights: Mapping[str, Any]) -> None:
    """Write the adapter in peft's own format; `weights` are those of the model that are trained."""
    model.save_pretrained(folder, state_dict=dict(weights))


def merge(start: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Return what an adapter makes of the model that it was put into; one of 4 bits is made plain before."""
    from peft import PeftModel

    if getattr(start, "is_quantized", False):
        start = start.dequantize()
    merged: PreTrainedModel = PeftModel.from_pretrained(start, adapter).merge_and_unload()
    return merged
