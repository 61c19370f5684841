"""Feedback of your own: JSON lines with pairs, or with single answers and their thumbs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, StrictBool, ValidationError

from halobench.data.sources.files import (
    FileSource,
    Row,
    feedback_from,
    reason_to_drop,
    split_by_group,
)
from halobench.errors import DataError
from halobench.feedback import Feedback, Message, Prompt, response
from halobench.registry import SOURCES
from halobench.storage import digest, file_digest

_SPLITS = ("train", "dev", "test")
_MOST_PROBLEMS = 10


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prompt: str | list[_Turn]
    group: str | None = None

    def turns(self) -> Prompt:
        if isinstance(self.prompt, str):
            return (Message("user", self.prompt),)
        return tuple(Message(turn.role, turn.content) for turn in self.prompt)


class _Paired(_Record):
    expected: ClassVar[dict[str, str]] = {"chosen": "a text", "rejected": "a text"}
    chosen: str
    rejected: str


class _Unpaired(_Record):
    expected: ClassVar[dict[str, str]] = {"completion": "a text", "desirable": "true or false"}
    completion: str
    desirable: StrictBool


@SOURCES.register("jsonl", source="your file")
class JsonLines(FileSource):
    """A file of JSON lines, or a folder with train.jsonl, test.jsonl and perhaps dev.jsonl.

    A row is {"prompt", "chosen", "rejected"} or {"prompt", "completion", "desirable": true or false}; a file
    holds one kind. `prompt` is a text or a list of {"role", "content"}. `group` (optional) names what must
    stay on one side of a split, by default the prompt. A single file is divided by a digest of the groups:
    10% test, 10% dev.
    """

    @classmethod
    def open(cls, *, path: str | None, world_seed: int) -> JsonLines:
        """Read and check every row."""
        if path is None:
            raise DataError("data.path: is missing; give a file of JSON lines, or a folder with train.jsonl")
        place = Path(path)
        files = {split: place / f"{split}.jsonl" for split in _SPLITS} if place.is_dir() else {"train": place}
        files = {split: file for split, file in files.items() if split != "dev" or file.is_file()}
        absent = [str(file) for file in files.values() if not file.is_file()]
        if absent:
            raise DataError(*(f"data.path = {path!r}: {file} does not exist" for file in absent))

        drops: Counter[str] = Counter()
        problems: list[str] = []
        rows = {
            split: _read(file, drops if split == "train" else Counter(), problems)
            for split, file in files.items()
        }
        if problems:
            more = len(problems) - _MOST_PROBLEMS
            raise DataError(
                *problems[:_MOST_PROBLEMS], *([f"... and {more} more like these"] if more > 0 else [])
            )
        if len(rows) == 1:
            splits = split_by_group(rows["train"], test_share=0.1, dev_share=0.1)
        elif "dev" not in rows:
            splits = {**split_by_group(rows["train"], test_share=0, dev_share=0.1), "test": rows["test"]}
        else:
            splits = rows
        digests = [[split, file_digest(file)] for split, file in sorted(files.items())]
        return cls(f"jsonl-{digest(digests)[:16]}", splits, drops)


def read_feedback(file: Path) -> Feedback:
    """Read every row of one file, whatever split it would belong to.

    Raises:
        DataError: a row is wrong; one line each.
    """
    drops: Counter[str] = Counter()
    problems: list[str] = []
    rows = _read(file, drops, problems)
    if problems:
        raise DataError(*problems)
    return feedback_from(rows, drops)


def _read(file: Path, drops: Counter[str], problems: list[str]) -> list[Row]:
    """Read one file; rows that say nothing are counted, rows that are wrong become problems."""
    rows: list[Row] = []
    kinds: dict[bool, int] = {}
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # texts may hold the rarer line separators
    except UnicodeDecodeError as error:
        problems.append(f"{file}: is not UTF-8 ({error})")
        return rows
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        try:
            record = json.loads(line)
            json.dumps(record, ensure_ascii=False).encode()  # an escape can name half of a surrogate pair
        except UnicodeEncodeError:
            problems.append(f"{place}: holds half of a surrogate pair; write whole characters")
            continue
        except ValueError as error:
            problems.append(f"{place}: is not JSON ({error})")
            continue
        if not isinstance(record, dict):
            problems.append(f"{place}: expected an object, found {type(record).__name__}")
            continue
        row = _parse(record, place, problems)
        if row is not None:
            kinds.setdefault(row.loser is None, number)
            reason = reason_to_drop(row)
            if reason is None:
                rows.append(row)
            else:
                drops[reason] += 1
    if len(kinds) == 2:
        problems.append(
            f"{file}: mixes pairs (line {kinds[False]}) and single answers (line {kinds[True]}); "
            "give a file of one kind"
        )
    if not any(line.strip() for line in lines):
        problems.append(f"{file}: is empty; give one JSON object per line")
    return rows


def _parse(record: dict[str, Any], place: str, problems: list[str]) -> Row | None:
    model = _Unpaired if {"completion", "desirable"} & record.keys() else _Paired
    try:
        parsed = model.model_validate(record)
    except ValidationError as error:
        for key in dict.fromkeys(str(problem["loc"][0]) for problem in error.errors()):
            expected = {"prompt": "a text or a list of turns", "group": "a text", **model.expected}.get(key)
            found = f"(found keys: {', '.join(record)})"
            if key not in record:
                problems.append(f'{place}: "{key}" is missing; expected {expected} {found}')
            elif expected is None:
                problems.append(f'{place}: "{key}" is not a key of such a row; drop it {found}')
            else:
                problems.append(f'{place}: "{key}" = {record[key]!r}; expected {expected}')
        return None
    prompt = parsed.turns()
    group = parsed.group or digest([list(turn) for turn in prompt])[:16]
    if isinstance(parsed, _Paired):
        return Row(
            response(prompt, parsed.chosen, group_id=group, source="jsonl"),
            response(prompt, parsed.rejected, group_id=group, source="jsonl"),
        )
    answer = response(prompt, parsed.completion, group_id=group, source="jsonl")
    return Row(answer, desirable=parsed.desirable)
