"""Tokenised completions, and how they go through a model at once: packed, or padded to a rectangle."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from halobench.data.tokenize import Tokens


class Row(NamedTuple):
    """One tokenised completion.

    Attributes:
        prompt: token ids, the control token included where it is only a condition.
        completion: token ids that are scored.
        desirable: its label.
        reference: (completion,) log-probabilities under the reference in nats, float32; None where none are
            needed.
    """

    prompt: Tokens
    completion: Tokens
    desirable: bool
    reference: np.ndarray | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and completion."""
        return len(self.prompt) + len(self.completion)


class RowsOnDemand(Sequence[Row]):
    """Rows that are put together when they are asked for, because all of them would fill the memory."""

    @abstractmethod
    def row(self, index: int) -> Row:
        """Put a row together."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """Put a row together, or several."""
        if isinstance(index, slice):
            return [self.row(number) for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.row(index)


class Segment(NamedTuple):
    """Tokens of a packed row that stand together.

    Attributes:
        start: of its own tokens in the row.
        num_tokens: of its own.
        shared: where the tokens begin that it reads before its own, counted from the pass before if any.
        num_shared: how many those are.
    """

    start: int
    num_tokens: int
    shared: int = 0
    num_shared: int = 0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Completions as one forward pass takes them.

    Packed, they are one row without padding in which a prompt stands once for all its completions; it has
    segments. Padded, they are a rectangle, a completion a row, and have none.

    Args:
        input_ids: (R, T) token ids; R = 1 when packed.
        positions: (R, T) place of each token in its text.
        segments: of the packed row; empty when padded.
        predictors: (S,) for each scored token the place, in the flattened rows, of the token before it. Rows
            that go on from others count the tokens of those first.
        targets: (S,) scored tokens, completion by completion.
        completion_lengths: (N,) scored tokens of each completion; 0 for one that only fills up.
        reference: (N, C) log-probabilities of the scored tokens under the reference in nats, or None.
    """

    input_ids: Int[Tensor, "rows tokens"]
    positions: Int[Tensor, "rows tokens"]
    segments: tuple[Segment, ...]
    predictors: Int[Tensor, " scored"]
    targets: Int[Tensor, " scored"]
    completion_lengths: Int[Tensor, " completions"]
    reference: Float[Tensor, "completions longest"] | None

    def to(self, device: torch.device, **kwargs: Any) -> Rows:
        """The same on a device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, **kwargs)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def token_bytes(tokens: Tokens) -> bytes:
    """Four bytes a token, in the order of the tokens: a key that takes an eighth of their memory."""
    return np.array(tokens, ">u4").tobytes()


def batch_by_length(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Yield indices of rows of similar length, the shortest first, as many as fit with their padding."""
    part: list[int] = []
    lengths = [row.length for row in rows]
    for index in sorted(range(len(rows)), key=lambda index: lengths[index]):
        if part and lengths[index] * (len(part) + 1) > max_tokens:
            yield part
            part = []
        part.append(index)
    if part:
        yield part


def batch_by_prompt(rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
    """Yield indices of rows, those of one prompt together, as many as fit when they are packed."""
    part: list[int] = []
    num_tokens = 0
    prompts = [token_bytes(row.prompt) for row in rows]
    for index in sorted(range(len(rows)), key=lambda index: (len(prompts[index]), prompts[index])):
        row = rows[index]
        is_new = not part or prompts[index] != prompts[part[-1]]
        added = len(row.completion) + (len(row.prompt) if is_new else 0)
        if part and num_tokens + added > max_tokens:
            yield part
            part, num_tokens, added = [], 0, row.length
        part.append(index)
        num_tokens += added
    if part:
        yield part


def pack_rows(rows: Sequence[Row], after: Sequence[Row] = ()) -> Rows:
    """Pack rows into one without padding: the first completion of a prompt follows it, the others read it.

    [P R1][R2][R3] [P' R1'] ...; a completion that stands alone is an ordinary causal text.

    Args:
        rows: prompts and completions.
        after: rows that a pass before has packed; their prompts are read there and not repeated.
    """
    where: dict[Tokens, int] = {}  # prompts, by the place of their first token counted from that pass on
    num_before = 0
    for row in after:
        if row.prompt not in where:
            where[row.prompt] = num_before
            num_before += len(row.prompt)
        num_before += len(row.completion)
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    predictors: list[int] = []
    for row in rows:
        start, num_prompt, num_scored = len(ids), len(row.prompt), len(row.completion)
        if row.prompt not in where:
            where[row.prompt] = num_before + start
            ids += row.prompt
            positions += range(num_prompt)
            segments.append(Segment(start, num_prompt + num_scored))
        elif num_scored:
            segments.append(Segment(start, num_scored, where[row.prompt], num_prompt))
        if num_scored:
            first = num_before + len(ids)
            predictors += [where[row.prompt] + num_prompt - 1, *range(first, first + num_scored - 1)]
        ids += row.completion
        positions += range(num_prompt, num_prompt + num_scored)
    if not ids:  # a forward pass needs a token
        ids, positions, segments = [0], [0], [Segment(0, 1)]
    return _rows([ids], [positions], segments, predictors, rows)


def pad_rows(rows: Sequence[Row]) -> Rows:
    """Pad rows to one rectangle, a completion a row, prompts first; padding reads and is read by nothing."""
    width = max(row.length for row in rows)
    ids = [[*row.prompt, *row.completion, *[0] * (width - row.length)] for row in rows]
    predictors = [
        index * width + len(row.prompt) + offset - 1
        for index, row in enumerate(rows)
        for offset in range(len(row.completion))
    ]
    return _rows(ids, [list(range(width))] * len(rows), (), predictors, rows)


def _rows(
    ids: list[list[int]],
    positions: list[list[int]],
    segments: Sequence[Segment],
    predictors: list[int],
    rows: Sequence[Row],
) -> Rows:
    longest = max(1, *(len(row.completion) for row in rows)) if rows else 1
    reference = None
    if any(row.reference is not None for row in rows):
        reference = torch.zeros(len(rows), longest)
        for index, row in enumerate(rows):
            reference[index, : len(row.completion)] = torch.as_tensor(np.array(row.reference))
    return Rows(
        input_ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        segments=tuple(segments),
        predictors=torch.tensor(predictors, dtype=torch.long),
        targets=torch.tensor([token for row in rows for token in row.completion], dtype=torch.long),
        completion_lengths=torch.tensor([len(row.completion) for row in rows]),
        reference=reference,
    )
