"""Tokens of many completions: on disk, made once, read a row at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from halobench.data.rows import Row, RowsOnDemand
from halobench.data.tokenize import Encoder, Fate, Tokens
from halobench.feedback import Response
from halobench.storage import Artifacts, digest

_FILE = "tokens.arrow"
_BATCH = 1000
_SCHEMA = pa.schema({"prompt": pa.list_(pa.int32()), "completion": pa.list_(pa.int32()), "fate": pa.uint8()})


class TokenTable:
    """Prompt and completion of each response as tokens, read from a memory-mapped Arrow file.

    Args:
        file: as `tokenise` wrote it.
        response_ids: of its rows.

    Attributes:
        rows: response_id to the number of its row.
        fates: (N,) what each row lost, a `Fate`.
    """

    def __init__(self, file: Path, response_ids: Sequence[str]) -> None:
        self.rows = {response_id: number for number, response_id in enumerate(response_ids)}
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._columns = {
            name: [_ragged(b.column(name)) for b in batches] for name in ("prompt", "completion")
        }
        fates = [batch.column("fate").to_numpy() for batch in batches]
        self.fates: np.ndarray = np.concatenate(fates) if fates else np.empty(0, np.uint8)

    def prompt(self, row: int) -> Tokens:
        """Token ids of the prompt of a row."""
        return self._tokens("prompt", row)

    def completion(self, row: int) -> Tokens:
        """Token ids of the completion of a row."""
        return self._tokens("completion", row)

    def length(self, response_id: str) -> int:
        """Tokens of the completion of a response."""
        return len(self.completion(self.rows[response_id]))

    def has_lost(self, response_id: str, fates: Fate) -> bool:
        """Whether any of these things happened to a response."""
        return bool(int(self.fates[self.rows[response_id]]) & fates)

    def lost(self, response_ids: Iterable[str]) -> dict[str, int]:
        """How many of these responses lost what, by kind."""
        return _counts(self.fates[[self.rows[response_id] for response_id in response_ids]])

    def _tokens(self, column: str, row: int) -> Tokens:
        values, offsets = self._columns[column][row // _BATCH]
        start, end = offsets[row % _BATCH : row % _BATCH + 2]
        return tuple(values[start:end].tolist())


def _ragged(column: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column of lists, and where each list begins and ends; neither is copied."""
    return column.values.to_numpy(), column.offsets.to_numpy()


def _counts(fates: np.ndarray) -> dict[str, int]:
    counts = {str(fate.name).lower(): int(np.count_nonzero(fates & fate)) for fate in Fate}
    return {name: count for name, count in counts.items() if count}


def tokenise(
    responses: Mapping[str, Response],
    encoder: Encoder,
    artifacts: Artifacts,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> TokenTable:
    """Return the tokens of responses, made on the first call for them; texts go through in batches.

    Args:
        responses: response_id to response.
        encoder: their tokenizer, template and lengths; part of the name under which they are kept.
        artifacts: where they are kept.
        report: told how many are done, of how many.

    Raises:
        DataError: the template refuses a prompt.
    """

    def build(folder: Path) -> None:
        with pa.ipc.new_file(folder / _FILE, _SCHEMA) as writer:
            done = 0
            for part in _in_batches(responses.values()):
                rows = encoder.encode([(row.prompt, row.completion) for row in part])
                columns = [
                    [row.prompt for row in rows],
                    [row.completion for row in rows],
                    [int(row.fate) for row in rows],
                ]
                arrays = [pa.array(c, field.type) for c, field in zip(columns, _SCHEMA, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
                done += len(part)
                report(done, len(responses))

    key = digest([encoder.identity, list(responses)])[:16]
    return TokenTable(artifacts.get("tokens", key, build) / _FILE, list(responses))


def _in_batches(responses: Iterable[Response]) -> Iterator[list[Response]]:
    remaining = iter(responses)
    while part := list(islice(remaining, _BATCH)):
        yield part


@dataclass(frozen=True)
class TokenRows(RowsOnDemand):
    """Rows that a loss is shown, put together from a table when they are asked for.

    Attributes:
        table: the tokens.
        prompts: (N,) row of the table with the prompt of each.
        completions: (N,) row of the table with its completion; another's where they are mismatched.
        desirable: (N,) the labels.
        controls: tokens that stand between prompt and completion of a desirable row and of another, if any.
        scores_control: whether the control token is part of the completion, and not of the prompt.
        reference: where the log-probabilities of each completion are and its beginnings in them, or None.
    """

    table: TokenTable
    prompts: np.ndarray
    completions: np.ndarray
    desirable: np.ndarray
    controls: Mapping[bool, Tokens]
    scores_control: bool = False
    reference: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def row(self, index: int) -> Row:
        """Put a row together."""
        desirable = bool(self.desirable[index])
        prompt = self.table.prompt(self.prompts[index])
        completion = self.table.completion(self.completions[index])
        control = self.controls.get(desirable, ())
        if self.scores_control:
            completion = control + completion
        else:
            prompt += control
        reference = None
        if self.reference is not None:
            values, starts = self.reference
            reference = values[starts[index] : starts[index] + len(completion)]
        return Row(prompt, completion, desirable, reference)

    @property
    def lost(self) -> dict[str, int]:
        """How many rows lost what, by kind."""
        return _counts(self.table.fates[self.completions])

    def mismatched(self, partners: Sequence[int]) -> TokenRows:
        """The same prompts with the completions of others."""
        return replace(self, completions=self.completions[np.asarray(partners, dtype=np.int64)])
