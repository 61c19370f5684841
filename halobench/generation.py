"""Batched sampling whose noise depends on seed, prompt, sample and position, and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from halobench.data.tokenize import Tokens

_BATCH_ROWS = 512
_COMPACT_BELOW = 0.75  # share of rows still being written at which the finished ones are taken out


@dataclass(frozen=True)
class Request:
    """One text to sample.

    Attributes:
        prompt_id: names the prompt in the noise, whatever its tokens.
        sample: number of the sample of this prompt.
        prompt: token ids.
    """

    prompt_id: str
    sample: int
    prompt: Tokens


@dataclass
class Sample:
    """One sampled text.

    Attributes:
        tokens: token ids, the end marker included where it was reached.
        ended: whether it was reached.
        entropy: sum over the tokens of the entropy of the distribution each was drawn from, in nats.
    """

    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    entropy: float = 0.0


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    requests: Sequence[Request],
    *,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    eos: int,
    pad: int,
    banned: Sequence[int] = (),
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Sample]:
    """Sample a text for each request: argmax of logits / temperature + Gumbel noise.

    The noise of a token is a function of (seed, prompt_id, sample, position, token), so it is the same for
    every model, batch and rank; texts of two models differ only where their distributions do.

    Args:
        model: on any device.
        requests: in any order.
        temperature: 0 takes the most likely token.
        seed: of the noise.
        max_new_tokens: longest text.
        eos: the end marker.
        pad: fills up rows.
        banned: tokens that are never drawn.
        report: told how many requests are done, of how many.
    """
    order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt))
    samples = [Sample() for _ in requests]
    for start in range(0, len(order), _BATCH_ROWS):
        part = order[start : start + _BATCH_ROWS]
        _generate_batch(
            model,
            [requests[index] for index in part],
            [samples[index] for index in part],
            temperature=temperature,
            seed=seed,
            max_new_tokens=max_new_tokens,
            eos=eos,
            pad=pad,
            banned=list(banned),
        )
        report(start + len(part), len(order))
    return samples


def _generate_batch(
    model: PreTrainedModel,
    requests: Sequence[Request],
    samples: Sequence[Sample],
    *,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    eos: int,
    pad: int,
    banned: list[int],
) -> None:
    device = model.device
    width = max(len(request.prompt) for request in requests)
    lengths = torch.tensor([len(request.prompt) for request in requests], device=device)
    ids = torch.tensor(
        [[pad] * (width - len(request.prompt)) + list(request.prompt) for request in requests], device=device
    )
    attention = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    keys = torch.tensor([_key(seed, request) for request in requests], device=device)
    active = torch.arange(len(requests), device=device)  # which request each row of the cache belongs to
    cache = DynamicCache(config=model.config)
    for position in range(max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        logits[:, [token for token in banned if token < logits.shape[-1]]] = -torch.inf
        tokens, entropy = _draw(logits.float(), keys[active], position, temperature)
        running = [not samples[row].ended for row in active.tolist()]
        for row, token, nats, runs in zip(
            active.tolist(), tokens.tolist(), entropy.tolist(), running, strict=True
        ):
            if runs:
                samples[row].tokens.append(token)
                samples[row].entropy += nats
                samples[row].ended = token == eos
        keep = torch.tensor([not samples[row].ended for row in active.tolist()], device=device)
        if not bool(keep.any()):
            return
        ids, positions = tokens[:, None], positions[:, -1:] + 1
        attention = torch.nn.functional.pad(attention, (0, 1), value=1)
        if float(keep.float().mean()) < _COMPACT_BELOW:
            kept = keep.nonzero().squeeze(-1)
            cache.batch_select_indices(kept)
            active, ids, positions, attention = (t[kept] for t in (active, ids, positions, attention))


def _draw(
    logits: Float[Tensor, "rows vocabulary"], keys: Int[Tensor, " rows"], position: int, temperature: float
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return the drawn token of each row and the entropy in nats of the distribution it was drawn from."""
    if temperature == 0:
        return logits.argmax(-1), torch.zeros(len(logits), device=logits.device)
    logps = (logits / temperature).log_softmax(-1)
    entropy = -torch.where(logps.isfinite(), logps.exp() * logps, 0.0).sum(-1)
    return (logps + gumbel(keys, position, logits.shape[-1])).argmax(-1), entropy


def _key(seed: int, request: Request) -> int:
    """63-bit key of the noise of one text."""
    text = f"{seed}\x1f{request.prompt_id}\x1f{request.sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def gumbel(keys: Int[Tensor, " rows"], position: int, vocabulary: int) -> Float[Tensor, "rows vocabulary"]:
    """Return standard Gumbel noise, a pure function of key, position and token.

    g = -log(-log u), u uniform from the SplitMix64 hash of (key, position, token)

    Args:
        keys: (N,) 63-bit integers, one per text.
        position: of the token in the text.
        vocabulary: number of tokens.
    """
    state = _mix(keys + torch.full_like(keys, position + 1) * 0x1E3779B97F4A7C15)  # (N,)
    tokens = torch.arange(vocabulary, device=keys.device) * 0x3F58476D1CE4E5B9
    bits = _mix(state[:, None] + tokens)  # (N, V)
    # 23 bits and a half are exact in float32; rounding one more could reach 1, and the noise be infinite
    uniform = ((bits >> 41) & 0x7FFFFF).float().add_(0.5).mul_(2.0**-23)
    return uniform.log_().neg_().log_().neg_()


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's finaliser on 64-bit integers that wrap around; the masks make the shifts logical."""
    state = state ^ ((state >> 30) & ((1 << 34) - 1))
    state = state * -0x40A7B892E31B1A47
    state = state ^ ((state >> 27) & ((1 << 37) - 1))
    state = state * -0x6B2FB644ECCEEE15
    return state ^ ((state >> 31) & ((1 << 33) - 1))
