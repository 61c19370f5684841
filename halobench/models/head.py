"""The head: hidden states to log-probabilities, or to a loss, with the logits of one chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

_CHUNK_LOGITS = {"cpu": 2**24, "cuda": 2**28}  # that are held at once: 64 MiB and 1 GiB


def chunk_tokens(model: PreTrainedModel, device: torch.device) -> int:
    """Tokens whose logits are held at once."""
    return max(1, _CHUNK_LOGITS[device.type] // int(model.config.get_text_config().vocab_size))


def head_logits(model: PreTrainedModel, hidden: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens v"]:
    """Return (T, V) logits, in float32 or better, of (T, H) last hidden states."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    config = model.config.get_text_config()
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * scale
    if scale := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / scale
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
        logits = cap * (logits / cap).tanh()
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Chunk(NamedTuple):
    """Scored tokens whose logits are held at once, and the completions they are."""

    tokens: slice
    rows: slice


def divide_examples(lengths: Sequence[int], rows_per_example: int, size: int) -> Iterator[Chunk]:
    """Yield whole examples with at most `size` scored tokens; a larger one alone."""
    first = start = stop = 0
    for row in range(0, len(lengths), rows_per_example):
        added = sum(lengths[row : row + rows_per_example])
        if row > first and stop + added - start > size:
            yield Chunk(slice(start, stop), slice(first, row))
            first, start = row, stop
        stop += added
    if first < len(lengths):
        yield Chunk(slice(start, stop), slice(first, len(lengths)))


class _TokenLogps(torch.autograd.Function):
    """logit[y] - logsumexp(logits), in the buffer of the logits, which nobody else may need."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        chosen = logits.gather(-1, targets[:, None])
        highest = logits.amax(-1, keepdim=True)
        weights = logits.detach().sub_(highest).exp_()
        total = weights.sum(-1, keepdim=True)
        ctx.save_for_backward(weights, total, targets)
        return (chosen - highest - total.log()).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        weights, total, targets = ctx.saved_tensors
        gradient = gradients[0][:, None]
        return weights.mul_(-gradient / total).scatter_add_(1, targets[:, None], gradient), None


Evaluate = Callable[[Tensor, Chunk], Tensor]


class _OnePass(torch.autograd.Function):
    """The sum of a function of hidden states over chunks; every gradient is made as soon as its chunk is.

    Three products with the head per chunk, and the logits of one chunk at a time.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, evaluate: Evaluate, chunks: Sequence[Chunk], *parameters: Tensor
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float64)
        found = [torch.zeros_like(tensor) for tensor in (hidden, *parameters)]
        for chunk in chunks:
            with torch.enable_grad():
                part = hidden[chunk.tokens].detach().requires_grad_()
                value = evaluate(part, chunk)
            _add_gradients(value, None, (part, *parameters), (found[0][chunk.tokens], *found[1:]))
            total += value.detach()
        ctx.save_for_backward(*found)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_hidden, *of_parameters = (saved.mul_(gradients[0]) for saved in ctx.saved_tensors)
        return of_hidden, None, None, *of_parameters


class _Recomputed(torch.autograd.Function):
    """A function of hidden states, chunk by chunk; the backward computes each chunk again."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, evaluate: Evaluate, chunks: Sequence[Chunk], *parameters: Tensor
    ) -> Tensor:
        device = hidden.device.type
        ctx.save_for_backward(hidden)
        ctx.evaluate, ctx.chunks, ctx.parameters = evaluate, chunks, parameters
        ctx.precision = torch.autocast(
            device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device)
        )
        parts = [evaluate(hidden[chunk.tokens], chunk) for chunk in chunks]
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        [hidden] = ctx.saved_tensors
        found = [torch.zeros_like(tensor) for tensor in (hidden, *ctx.parameters)]
        for chunk in ctx.chunks:
            with torch.enable_grad(), ctx.precision:
                part = hidden[chunk.tokens].detach().requires_grad_()
                value = ctx.evaluate(part, chunk)
            into = (found[0][chunk.tokens], *found[1:])
            _add_gradients(value, gradients[0][chunk.tokens], (part, *ctx.parameters), into)
        return found[0], None, None, *found[1:]


def _add_gradients(
    value: Tensor, outer: Tensor | None, inputs: Sequence[Tensor], into: Sequence[Tensor]
) -> None:
    """Add the gradients of a chunk to those of all."""
    for gradient, target in zip(
        torch.autograd.grad(value, inputs, outer, allow_unused=True), into, strict=True
    ):
        if gradient is not None:
            target.add_(gradient)


def token_logps(
    logits: Float[Tensor, "tokens vocabulary"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """Return (T,) log-probabilities in nats of the targets; the buffer of the (T, V) logits is used up."""
    logps: Tensor = _TokenLogps.apply(logits, targets)  # type: ignore[no-untyped-call]
    return logps


def sum_in_one_pass(
    hidden: Float[Tensor, "scored width"],
    evaluate: Evaluate,
    chunks: Sequence[Chunk],
    parameters: Sequence[Tensor],
) -> Float[Tensor, ""]:
    """Sum scalars over chunks of (S, H) hidden states, whose gradients are made as soon as each chunk is."""
    total: Tensor = _OnePass.apply(hidden, evaluate, chunks, *parameters)  # type: ignore[no-untyped-call]
    return total


def join_recomputed(
    hidden: Float[Tensor, "scored width"],
    evaluate: Evaluate,
    chunks: Sequence[Chunk],
    parameters: Sequence[Tensor],
) -> Float[Tensor, " scored"]:
    """Join vectors over chunks of (S, H) hidden states; the backward computes each chunk again."""
    values: Tensor = _Recomputed.apply(hidden, evaluate, chunks, *parameters)  # type: ignore[no-untyped-call]
    return values
