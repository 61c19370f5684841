"""Attention of rows without padding: a layout, handed down with the tokens, says what each of them reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from halobench.data.rows import Segment

ATTENTION = "halobench"  # its name in transformers' attention interface
_SHORT = 64  # tokens of a segment below which a call of its own costs more than padding it

Queries = Float[Tensor, "1 heads tokens width"]
Keys = Float[Tensor, "1 key_heads keys width"]


@runtime_checkable
class Layout(Protocol):
    """Says what the tokens of a forward pass attend to; given to the model as the keyword `layout`."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None,
        window: int | None,
    ) -> Tensor:
        """Return the attention's output, of the query's shape.

        Args:
            layer: number of the layer.
            query: (N, h, T, D).
            key: (N, h_kv, T, D), h a multiple of h_kv.
            value: as the keys.
            scale: of the scores; None for 1 / sqrt(D).
            window: a token reads itself and the `window` - 1 before it; None for all before it.
        """


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; it hands down the keywords that the model was given."""
    unknown = [name for name in ("softcap", "s_aux") if others.get(name) is not None]
    if unknown or attention_mask is not None or others.get("is_causal") is False:
        raise NotImplementedError(f"attention with {unknown or 'a mask'}")
    layer: Any = module.layer_idx
    mixed = layout.attend(layer, query, key, value, scale=scaling, window=sliding_window)
    return mixed.transpose(1, 2), None


AttentionInterface.register(ATTENTION, _attend)


@contextmanager
def attending(model: PreTrainedModel, attention: str = ATTENTION) -> Iterator[None]:
    """Let the model's layers ask the layout, or attend otherwise, for as long as this lasts."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = attention
    try:
        yield
    finally:
        config._attn_implementation = before


class KeysAndValues(NamedTuple):
    """What a layer made of the tokens of a forward pass, without gradient.

    Args:
        key: (1, h_kv, T, D).
        value: (1, h_kv, T, D).
    """

    key: Keys
    value: Keys


@dataclass
class Segments:
    """One row of segments; each reads itself and perhaps the beginning of another, the prompt they share.

    Args:
        segments: in the order of their tokens, which they fill without a gap.
        memory: keys and values by layer that the shared beginnings are read from; None for this row itself.
        kept: receives the keys and values of this row by layer, for rows that go on from it; None keeps none.
    """

    segments: tuple[Segment, ...]
    memory: dict[int, KeysAndValues] | None = None
    kept: dict[int, KeysAndValues] | None = None
    _plans: dict[Any, Any] = field(default_factory=dict)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scale: float | None,
        window: int | None,
    ) -> Tensor:
        """Causal attention of every segment to itself and to what it shares; see `Layout.attend`."""
        if self.kept is not None:
            self.kept[layer] = KeysAndValues(key.detach(), value.detach())
        num_before = 0
        if self.memory is not None:
            memory = self.memory[layer]
            num_before = memory.key.shape[2]
            key, value = torch.cat((memory.key, key), 2), torch.cat((memory.value, value), 2)
        if _has_kernel(query):
            return self._varlen(query, key, value, num_before, scale, window)
        repeats = query.shape[1] // key.shape[1]
        if repeats > 1:
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        if query.shape[2] < _SHORT * len(self.segments):
            return self._together(query, key, value, num_before, scale, window)
        return self._one_by_one(query, key, value, num_before, scale, window)

    def _one_by_one(
        self, query: Queries, key: Keys, value: Keys, num_before: int, scale: float | None, window: int | None
    ) -> Tensor:
        """One call per segment; one split of each tensor, because every slice has a full-sized gradient."""
        lengths = [segment.num_tokens for segment in self.segments]
        before = [num_before] if num_before else []
        keys, values = (torch.split(states, [*before, *lengths], 2) for states in (key, value))
        owner = {segment.start: index for index, segment in enumerate(self.segments)}
        mixed = []
        for index, (segment, queries) in enumerate(
            zip(self.segments, torch.split(query, lengths, 2), strict=True)
        ):
            own_key, own_value = keys[index + len(before)], values[index + len(before)]
            if segment.num_shared:
                if segment.shared < num_before:
                    source, first = 0, segment.shared
                else:
                    source, first = owner[segment.shared - num_before] + len(before), 0
                shared = slice(first, first + segment.num_shared)
                own_key = torch.cat((keys[source][:, :, shared], own_key), 2)
                own_value = torch.cat((values[source][:, :, shared], own_value), 2)
            mask = self._mask(segment, window, query.device)
            heads = scaled_dot_product_attention(
                queries, own_key, own_value, attn_mask=mask, is_causal=mask is None, scale=scale
            )
            mixed.append(heads.transpose(1, 2))
        return torch.cat(mixed, 1).transpose(1, 2)  # by token, as the next product wants it

    def _mask(
        self, segment: Segment, window: int | None, device: torch.device
    ) -> Bool[Tensor, "tokens keys"] | None:
        """(R, P + R) what each token of a segment reads; None where it is all of the segment up to itself."""
        size = segment.num_shared + segment.num_tokens
        if not segment.num_shared and (window is None or size <= window):
            return None
        plan = "mask", segment.num_shared, size, window
        if plan not in self._plans:
            at = torch.arange(segment.num_shared, size, device=device)[:, None]
            self._plans[plan] = _allowed(at, torch.arange(size, device=device), window)
        mask: Tensor = self._plans[plan]
        return mask

    def _together(
        self, query: Queries, key: Keys, value: Keys, num_before: int, scale: float | None, window: int | None
    ) -> Tensor:
        """Segments of similar length in one padded call each, because a call costs more than a few tokens."""
        plan = "rectangles", num_before, window
        if plan not in self._plans:
            self._plans[plan] = _rectangles(self.segments, num_before, window, query.device)
        parts, places = self._plans[plan]
        by_token = [states[0].transpose(0, 1) for states in (query, key, value)]  # (T, h, D)
        mixed = []
        for part in parts:
            q, k, v = (
                states.index_select(0, index.flatten()).view(*index.shape, *states.shape[1:]).transpose(1, 2)
                for states, index in zip(by_token, (part.queries, part.keys, part.keys), strict=True)
            )
            heads = scaled_dot_product_attention(
                q, k, v, attn_mask=part.mask, is_causal=part.mask is None, scale=scale
            )  # (n, h, Q, D)
            mixed.append(heads.transpose(1, 2).flatten(0, 1))
        return torch.cat(mixed).index_select(0, places).transpose(0, 1)[None]

    def _varlen(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        num_before: int,
        scale: float | None,
        window: int | None,
    ) -> Tensor:
        """One kernel for all segments, causal from the last key backwards; one gather brings their keys."""
        from torch.nn.attention.varlen import varlen_attn

        plan = "gather", num_before
        if plan not in self._plans:
            self._plans[plan] = _gathering(self.segments, num_before, query.device)
        index, query_ends, key_ends, longest_query, longest_key = self._plans[plan]
        by_token = [states[0].transpose(0, 1) for states in (query, key, value)]  # (T, h, D)
        mixed: Any = varlen_attn(
            by_token[0].contiguous(),
            by_token[1].index_select(0, index),
            by_token[2].index_select(0, index),
            query_ends,
            key_ends,
            longest_query,
            longest_key,
            scale=scale,
            window_size=(-1 if window is None else window - 1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        heads: Tensor = mixed.transpose(0, 1)[None]
        return heads


def _has_kernel(query: Queries) -> bool:
    """Whether one kernel attends in segments of any length: flash attention, which has two types."""
    return query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)


def _allowed(
    at: Int[Tensor, "*rows 1"], keys: Int[Tensor, " keys"], window: int | None
) -> Bool[Tensor, "*rows keys"]:
    """What a token at a position reads: the keys up to its own, or the last `window` of them."""
    allowed = keys <= at
    return allowed if window is None else allowed & (keys > at - window)


class _Rectangle(NamedTuple):
    """Segments padded to one shape.

    Args:
        queries: (n, Q) tokens of each segment; what exceeds it is computed in vain.
        keys: (n, K) tokens that it reads, the shared ones first.
        mask: (n, 1, Q, K) what each query reads; None for all keys up to its own place.
    """

    queries: Int[Tensor, "n q"]
    keys: Int[Tensor, "n k"]
    mask: Bool[Tensor, "n 1 q k"] | None


def _rectangles(
    segments: tuple[Segment, ...], num_before: int, window: int | None, device: torch.device
) -> tuple[list[_Rectangle], Int[Tensor, " tokens"]]:
    """Return the rectangles, and where each token of the row is found in them, one after the other.

    Args:
        segments: of the row.
        num_before: keys of another row that stand before those of this one; shared tokens are among them.
        window: of the attention.
        device: for the tensors.
    """
    buckets: dict[tuple[int, bool], list[Segment]] = {}
    for segment in segments:
        size = (segment.num_tokens - 1).bit_length()  # at most twice as long as the shortest
        buckets.setdefault((size, segment.num_shared > 0), []).append(segment)
    parts = []
    places = torch.empty(segments[-1].start + segments[-1].num_tokens, dtype=torch.long)
    base = 0
    for members in buckets.values():
        start, num_tokens, shared, num_shared = (column[:, None] for column in torch.tensor(members).T)
        within = torch.arange(int(num_tokens.max()))
        queries = start + torch.minimum(within, num_tokens - 1)
        among = torch.arange(int((num_shared + num_tokens).max()))
        own = num_before + start + torch.minimum((among - num_shared).clamp(min=0), num_tokens - 1)
        keys = torch.where(among < num_shared, shared + among, own)
        mask = None
        if window is not None or bool(num_shared.any()):
            mask = _allowed((num_shared + within)[:, None, :, None], among, window).to(device)
        slots = base + torch.arange(queries.numel()).view_as(queries)
        is_token = within < num_tokens
        places[queries[is_token]] = slots[is_token]
        base += queries.numel()
        parts.append(_Rectangle(queries.to(device), keys.to(device), mask))
    return parts, places.to(device)


def _gathering(
    segments: tuple[Segment, ...], num_before: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Return the keys that every segment reads, the ends of both kinds, and the longest of each."""
    keys = []
    for segment in segments:
        own = num_before + segment.start
        keys += [*range(segment.shared, segment.shared + segment.num_shared)]
        keys += [*range(own, own + segment.num_tokens)]
    num_queries = [segment.num_tokens for segment in segments]
    num_keys = [segment.num_shared + segment.num_tokens for segment in segments]
    ends = [
        torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=device)
        for counts in (num_queries, num_keys)
    ]
    return torch.tensor(keys, device=device), *ends, max(num_queries), max(num_keys)  # type: ignore[return-value]
