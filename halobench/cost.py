"""What training costs: FLOPs, memory, hours; from the shape of a model and what goes through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

WEIGHT_BYTES = {"64-true": 8, "32-true": 4, "bf16-mixed": 4, "bf16-true": 2}
_ACTIVATION_BYTES = {"64-true": 8, "32-true": 4, "bf16-mixed": 2, "bf16-true": 2}  # where it is computed in
_CHUNK_LOGITS = 2**28  # that are held at once on a GPU, see models/head.py
_LOGIT_COPIES = 3  # logits, softmax weights, gradient, in float32
_RESERVED = 0.08  # of a device's memory: the context of CUDA, what its allocator loses


class Device(NamedTuple):
    """An accelerator, by its data sheet.

    Attributes:
        memory: bytes.
        bf16: peak FLOP/s of dense matrix products in bfloat16.
        fp32: in float32, without TF32.
    """

    memory: float
    bf16: float
    fp32: float

    def has_room(self, num_bytes: float) -> bool:
        """Whether so much fits beside what CUDA and its allocator need."""
        return num_bytes <= self.memory * (1 - _RESERVED)


DEVICES = {
    "a100-40gb": Device(40e9, 312e12, 19.5e12),
    "a100-80gb": Device(80e9, 312e12, 19.5e12),
    "h100-80gb": Device(80e9, 989e12, 67e12),
    "h200": Device(141e9, 989e12, 67e12),
    "l40s": Device(48e9, 362e12, 91.6e12),
    "rtx3090": Device(24e9, 71e12, 35.6e12),
    "rtx4090": Device(24e9, 165e12, 82.6e12),
}


@dataclass(frozen=True)
class Shape:
    """What the cost of a model follows from.

    Attributes:
        parameters: all of them, tied ones once.
        body: weights of the layers' matrix products.
        head: weights of the output embedding.
        layers: number of decoder layers.
        hidden: width of the residual stream.
        query: width of the queries, all heads together.
        key: width of the keys, likewise.
        inner: width inside the MLP.
        gated: whether the MLP multiplies two projections.
        linears: (name, inputs, outputs) of the matrices of the first layer.
    """

    parameters: int
    body: int
    head: int
    layers: int
    hidden: int
    query: int
    key: int
    inner: int
    gated: bool
    linears: tuple[tuple[str, int, int], ...]


def shape_of(config: PretrainedConfig) -> Shape:
    """Build the model without its weights and count."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    head = model.get_output_embeddings()
    matrices = [
        (name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    ]
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    num_key_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    first = [(name.rpartition(".")[2], *sizes) for name, *sizes in matrices if ".layers.0." in name]
    return Shape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        body=sum(inputs * outputs for _, inputs, outputs in matrices),
        head=head.weight.numel(),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        query=width * text.num_attention_heads,
        key=width * num_key_heads,
        inner=text.intermediate_size,
        gated=sum(outputs == text.intermediate_size for _, _, outputs in first) > 1,
        linears=tuple((name, inputs, outputs) for name, inputs, outputs in first),
    )


def adapter_parameters(shape: Shape, rank: int, targets: str | Sequence[str]) -> int:
    """Weights of low-rank adapters on the layers' matrices of these names, or "all-linear"."""
    return shape.layers * sum(
        rank * (inputs + outputs)
        for name, inputs, outputs in shape.linears
        if targets == "all-linear" or name in targets
    )


class Traffic(NamedTuple):
    """What goes through a model.

    Attributes:
        tokens: through its layers.
        scored: through its head.
        attended: keys that the queries read, summed over the tokens.
    """

    tokens: float
    scored: float
    attended: float

    @classmethod
    def of(cls, prompts: float, completions: float, prompt: float, completion: float) -> Traffic:
        """Prompts, and completions that read them; a prompt goes through once for all its completions.

        Args:
            prompts: that go through.
            completions: that go through.
            prompt: mean tokens of a prompt.
            completion: mean tokens of a completion.
        """
        scored = completions * completion
        return cls(
            prompts * prompt + scored, scored, prompts * prompt**2 / 2 + scored * (prompt + completion / 2)
        )

    def __add__(self, other: Any) -> Traffic:
        """Both together."""
        return Traffic(*(mine + its for mine, its in zip(self, other, strict=True)))


NOTHING = Traffic(0.0, 0.0, 0.0)


def flops(
    traffic: Traffic,
    shape: Shape,
    *,
    gradient: bool,
    adapter: int | None = None,
    recomputes: bool = False,
) -> float:
    """FLOPs of a pass.

    Forward: 2 per weight and token in the layers, 2 per weight and scored token in the head, and 4 per layer,
    key that is read and unit of the queries' width (scores, and the sum of values). Backward: twice that,
    for the inputs and for the weights. Beside an adapter the weights are frozen and have no gradient,
    which leaves 4 instead of 6 per weight, and 6 per weight of the adapter. With gradient checkpointing the
    layers are computed once more.

    Args:
        traffic: what goes through.
        shape: of the model.
        gradient: whether there is a backward pass.
        adapter: trained weights beside frozen ones; None where everything is trained.
        recomputes: whether gradient checkpointing is on.
    """
    body, head = 2.0 * shape.body * traffic.tokens, 2.0 * shape.head * traffic.scored
    attention = 4.0 * shape.layers * shape.query * traffic.attended
    if not gradient:
        return body + head + attention
    again = body + attention if recomputes else 0.0
    if adapter is not None:
        return 2 * (body + head) + 3 * attention + 6.0 * adapter * traffic.tokens + again
    return 3 * (body + head + attention) + again


class Memory(NamedTuple):
    """Bytes on each device while training, and on the one device that evaluates.

    Attributes:
        weights: parameters, with the copies in bfloat16 that autocast keeps over a step.
        gradients: of the trained parameters.
        optimizer: AdamW's two moments.
        activations: of a microbatch, kept for the backward pass.
        logits: of a chunk, with the head's gradient.
        evaluation: weights, keys and values of the largest pass without gradient, which is never sharded.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    evaluation: float

    @property
    def training(self) -> float:
        """Bytes on each device while training."""
        return sum(self) - self.evaluation

    @property
    def most(self) -> float:
        """Bytes that a device must have."""
        return max(self.training, self.evaluation)


def memory(
    shape: Shape,
    *,
    precision: str,
    microbatch_tokens: float,
    devices: int = 1,
    sharded: bool = False,
    adapter: int | None = None,
    weight_bytes: float | None = None,
    checkpointing: bool = False,
    evaluated_models: int = 1,
    kept_bytes: float = 0.0,
) -> Memory:
    """Memory of training and evaluation.

    Weights, gradients and two moments per parameter, divided by the devices where they are sharded; then the
    embeddings, the head and two layers are whole on each as well. Replicated over several devices, gradients
    are held twice (the buckets of ddp). Under autocast each device also holds the matrices in bfloat16,
    sharded or not. A layer keeps `_kept_per_token`, or with gradient checkpointing its input only; the layer
    that the backward pass is at holds as much again in gradients, and what it has recomputed.

    Args:
        shape: of the model.
        precision: of the recipe.
        microbatch_tokens: tokens that go through the model at once.
        devices: that train together.
        sharded: whether they share the parameters (fsdp).
        adapter: trained weights beside frozen ones; None where everything is trained.
        weight_bytes: of a frozen weight, where it is not what the precision says (qlora).
        checkpointing: whether gradient checkpointing is on.
        evaluated_models: that a scorer holds at once.
        kept_bytes: of keys and values while sampling.
    """
    width = WEIGHT_BYTES[precision]
    shards = devices if sharded else 1
    trained = shape.parameters if adapter is None else adapter
    of_weights = shape.parameters * (weight_bytes or width) / shards
    of_weights += 0 if adapter is None else adapter * width / shards
    of_gradients = trained * width / shards
    whole = 0.0
    if sharded:
        outside = shape.parameters - shape.body
        whole = width * (outside + 2 * shape.body / shape.layers)
    elif devices > 1:
        of_gradients *= 2
    if precision == "bf16-mixed":
        whole += 2.0 * (shape.body + shape.head)
    kept = _kept_per_token(shape, precision)
    inputs = shape.hidden * width if checkpointing else kept
    passed = (2 if checkpointing else 1) * kept
    by_layers = microbatch_tokens * (shape.layers * inputs + passed)
    tokens_of_chunk = min(microbatch_tokens, _CHUNK_LOGITS * shape.hidden / shape.head)
    of_logits = 4.0 * _LOGIT_COPIES * tokens_of_chunk * shape.head / shape.hidden
    of_logits += 0 if adapter is not None else width * shape.head
    return Memory(
        weights=of_weights + whole,
        gradients=of_gradients,
        optimizer=2.0 * trained * width / shards,
        activations=by_layers,
        logits=of_logits,
        evaluation=evaluated_models * shape.parameters * width
        + 4.0 * tokens_of_chunk * shape.head / shape.hidden
        + kept_bytes,
    )


def _kept_per_token(shape: Shape, precision: str) -> float:
    """Bytes per token that a layer keeps for its backward pass, within about a quarter.

    Of two norms the input and the result, in float32; queries, keys, values and what attention makes of them;
    the inputs of the projections; of the MLP input and result of its activation, and for a gate both factors
    and their product.
    """
    low = 2 * shape.query + 2 * shape.key + 2 * shape.hidden + shape.inner * (4 if shape.gated else 2)
    return low * _ACTIVATION_BYTES[precision] + 4 * shape.hidden * max(4, _ACTIVATION_BYTES[precision])


def gpu_hours(num_flops: float, device: Device, precision: str, utilisation: float) -> float:
    """Hours of one device at a share of its peak."""
    peak = device.bf16 if precision.startswith("bf16") else device.fp32
    return num_flops / (peak * utilisation) / 3600
