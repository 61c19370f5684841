"""Texts that are written together, a token of each at a time, with what their next tokens read."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from halobench.models.attention import KeysAndValues


class Cohort:
    """Texts that began together, with their keys and values.

    Texts of one prompt form groups, which hold the prompt's keys once: [prompt | first tokens | second
    tokens | ...], each block a token of every text of the group. Prompts are aligned at the end. So all texts
    are written at the same place, a window is the same keys of every group, and what must be hidden is only
    the tokens of the others, and what stands before the shorter prompts.

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
        self._groups, self._slots, self._group_size = _divide(starts)
        self._num_groups = int(self._groups.max()) + 1
        begins, num_tokens = torch.empty(2, self._num_groups, dtype=torch.long, device=owners.device)
        begins[self._groups], num_tokens[self._groups] = starts, lengths
        before = self._width - num_tokens[:, None]  # (G, 1)
        index = begins[:, None] + (torch.arange(self._width, device=owners.device) - before).clamp(min=0)
        places = torch.arange(self._width + self._group_size * (max_new_tokens - 1), device=owners.device)
        self._memory = {
            layer: KeysAndValues(*(_copy_prompts(states[0], index, len(places)) for states in memory))
            for layer, memory in kept.items()
        }
        self._mask = None
        if self._group_size > 1 or bool(before.any()):
            texts = torch.arange(self._group_size, device=owners.device)[:, None]
            of_others = (places >= self._width) & ((places - self._width) % self._group_size != texts)
            hidden = (of_others | (places < before)[:, None])[:, None]  # (G, 1, k, C)
            visible = next(iter(kept.values())).key.new_zeros(hidden.shape)
            self._mask = visible.masked_fill_(hidden, -torch.inf)

    def __len__(self) -> int:
        return len(self.owners)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None
    ) -> Tensor:
        """Attention of one token of each text; see `Layout.attend`."""
        size, written = self._group_size, self.num_written
        newest = self._width + size * (written - 1)
        first = 0
        if window is not None:
            first = newest - size * (window - 1) if written >= window else self._width + written - window
        read = slice(max(0, first), newest + size)
        keys, values = self._memory[layer]
        keys[self._groups, :, newest + self._slots] = key[:, :, 0]
        values[self._groups, :, newest + self._slots] = value[:, :, 0]
        # heads that share keys are more queries of theirs
        by_head = query.reshape(len(self), key.shape[1], -1, key.shape[3])
        num_queries = by_head.shape[2]
        queries = query.new_zeros(self._num_groups, key.shape[1], num_queries, size, key.shape[3])
        queries[self._groups, :, :, self._slots] = by_head
        mixed = scaled_dot_product_attention(
            queries.flatten(2, 3),
            keys[: self._num_groups, :, read],
            values[: self._num_groups, :, read],
            attn_mask=None
            if self._mask is None
            else self._mask[: self._num_groups, ..., read].repeat(1, 1, num_queries, 1),
            scale=scale,
        )
        mixed = mixed.view_as(queries)[self._groups, :, :, self._slots]
        return mixed.flatten(1, 2)[:, :, None]

    def take(self, tokens: Int[Tensor, " rows"], finished: Bool[Tensor, " rows"]) -> None:
        """Add a token to each text; finished ones leave, and a group with its last."""
        self.tokens = tokens
        self.num_written += 1
        if not bool(finished.any()):
            return
        runs = (~finished).nonzero().squeeze(1)
        for name in ("owners", "noise", "lengths", "tokens", "_groups", "_slots"):
            setattr(self, name, getattr(self, name)[runs])
        is_alive = self._groups.bincount(minlength=self._num_groups) > 0
        num_left = int(is_alive.sum())
        if num_left == self._num_groups:
            return
        # the last groups move to where others were
        targets = (~is_alive[:num_left]).nonzero().squeeze(1)
        sources = is_alive[num_left:].nonzero().squeeze(1) + num_left
        moved = torch.arange(self._num_groups, device=tokens.device).index_copy_(0, sources, targets)
        self._groups = moved[self._groups]
        self._num_groups = num_left
        if len(targets):
            written = slice(self._width + self._group_size * (self.num_written - 1))
            for memory in self._memory.values():
                for states in memory:
                    states[targets, :, written] = states[sources, :, written]
            if self._mask is not None:
                self._mask[targets] = self._mask[sources]


def _divide(starts: Int[Tensor, " rows"]) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"], int]:
    """Divide texts into groups of one prompt, of the mean number of texts a prompt has, rounded up.

    Args:
        starts: (N,) which texts have the same prompt.

    Returns:
        (N,) number of each text's group, (N,) its place in the group, and the size of groups.
    """
    _, prompts, counts = torch.unique(starts, return_inverse=True, return_counts=True)
    size = -(-len(starts) // len(counts))
    order = prompts.argsort(stable=True)
    ranks = torch.empty_like(order)
    before = counts.cumsum(0) - counts
    ranks[order] = torch.arange(len(order), device=starts.device) - before[prompts[order]]
    num_groups = -(-counts // size)
    return (num_groups.cumsum(0) - num_groups)[prompts] + ranks // size, ranks % size, size


def _copy_prompts(
    states: Float[Tensor, "heads tokens size"], index: Int[Tensor, "groups width"], capacity: int
) -> Float[Tensor, "groups heads capacity size"]:
    """Copy prompts out of a packed row to where their texts can go on; what is not written yet is zero."""
    copies = states.new_zeros(len(index), states.shape[0], capacity, states.shape[2])
    copies[:, :, : index.shape[1]] = states[:, index].transpose(0, 1)
    return copies


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
