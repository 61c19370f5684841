"""Texts that are written together, a token of each at a time, with what their next tokens read."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from halobench.models.attention import KeysAndValues


class Cohort:
    """Texts that began together, with their keys and values.

    Their prompts are aligned at the end. So all texts are written at the same place, a window is the same
    keys of every text, and what must be hidden is only what stands before the shorter prompts.

    Args:
        owners: (N,) index of each text's request.
        noise: (N,) keys of its noise.
        starts: (N,) of each text's prompt in the row that was read.
        lengths: (N,) tokens of each prompt.
        kept: keys and values of that row by layer.
        max_new_tokens: longest text.
    """

    def __init__(
        self,
        owners: Int[Tensor, " rows"],
        noise: Int[Tensor, " rows"],
        starts: Int[Tensor, " rows"],
        lengths: Int[Tensor, " rows"],
        kept: dict[int, KeysAndValues],
        max_new_tokens: int,
    ) -> None:
        self.owners, self.noise, self.lengths = owners, noise, lengths
        self.tokens = torch.empty_like(owners)
        self.num_written = 0
        self._width = int(lengths.max())
        capacity = self._width + max_new_tokens - 1
        before = self._width - lengths[:, None]
        places = torch.arange(capacity, device=owners.device)
        index = starts[:, None] + (places[: self._width] - before).clamp(min=0)  # (N, W)
        self._memory = {
            layer: KeysAndValues(*(_slots(states[0], index, capacity) for states in memory))
            for layer, memory in kept.items()
        }
        self._mask = None
        if bool(before.any()):
            visible = next(iter(kept.values())).key.new_zeros(len(owners), 1, 1, capacity)
            self._mask = visible.masked_fill_((places < before)[:, None, None], -torch.inf)

    def __len__(self) -> int:
        return len(self.owners)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None
    ) -> Tensor:
        """Attention of one token of each text; see `Layout.attend`."""
        last = self._width + self.num_written - 1
        read = slice(0 if window is None else max(0, last + 1 - window), last + 1)
        keys, values = self._memory[layer]
        keys[: len(self), :, last] = key[:, :, 0]
        values[: len(self), :, last] = value[:, :, 0]
        mixed = scaled_dot_product_attention(
            query.reshape(len(self), key.shape[1], -1, key.shape[3]),  # heads that share keys are its queries
            keys[: len(self), :, read],
            values[: len(self), :, read],
            attn_mask=None if self._mask is None else self._mask[: len(self), ..., read],
            scale=scale,
        )
        return mixed.flatten(1, 2)[:, :, None]

    def take(self, tokens: Int[Tensor, " rows"], finished: Bool[Tensor, " rows"]) -> None:
        """Add a token to each text; the last texts move to where finished ones were."""
        self.tokens = tokens
        self.num_written += 1
        runs = ~finished
        num_left = int(runs.sum())
        if num_left == len(self):
            return
        targets = finished[:num_left].nonzero().squeeze(1)
        sources = runs[num_left:].nonzero().squeeze(1) + num_left
        order = torch.arange(num_left, device=tokens.device).index_copy_(0, targets, sources)
        columns = self.owners, self.noise, self.lengths, self.tokens
        self.owners, self.noise, self.lengths, self.tokens = (column[order] for column in columns)
        self._mask = None if self._mask is None else self._mask[order]
        if len(targets):
            last = self._width + self.num_written - 1
            for memory in self._memory.values():
                for states in memory:
                    states[targets, :, :last] = states[sources, :, :last]


def _slots(
    states: Float[Tensor, "heads tokens size"], index: Int[Tensor, "rows width"], capacity: int
) -> Float[Tensor, "rows heads capacity size"]:
    """Copy prompts out of a packed row to where their texts can go on."""
    slots = states.new_empty(len(index), states.shape[0], capacity, states.shape[2])
    slots[:, :, : index.shape[1]] = states[:, index].transpose(0, 1)
    return slots


class Cohorts:
    """The layout of a step that adds a token to each text.

    Args:
        cohorts: whose texts are the rows, one cohort after the other.

    Attributes:
        positions: (N,) of the new tokens in their texts, the prompts not counted.
    """

    def __init__(self, cohorts: list[Cohort]) -> None:
        self.cohorts = cohorts
        self._sizes = [len(cohort) for cohort in cohorts]
        self.positions = torch.cat([torch.full_like(cohort.owners, cohort.num_written) for cohort in cohorts])

    def column(self, name: str) -> Int[Tensor, " rows"]:
        """(N,) an attribute of all cohorts."""
        return torch.cat([getattr(cohort, name) for cohort in self.cohorts])

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Divide (N, ...) rows by cohort."""
        return torch.split(rows, self._sizes)

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
        """Attention of the newest token of every text to its text; see `Layout.attend`."""
        parts = zip(self.cohorts, *map(self.split, (query, key, value)), strict=True)
        return torch.cat([cohort.attend(layer, q, k, v, scale, window) for cohort, q, k, v in parts])
