"""What sources of published data sets share: rows are used, dropped for a reason, or refused by number."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from halobench.data.sources.files import FileSource, Row, reason_to_drop, split_by_group
from halobench.data.sources.reading import Record, read_published
from halobench.errors import DataError
from halobench.feedback import Message, Prompt, Response, response
from halobench.storage import digest

_ROLES = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
}
_MOST_PROBLEMS = 10

OTHER_PROMPT = "the prompts of the two sides differ"


class UnexpectedRowError(Exception):
    """A row is not what the source expects; says which key, and what was expected."""


class PublishedSource(FileSource):
    """Rows as somebody published them, one class per schema.

    Attributes:
        hub_id: a data set of the Hub that has the schema; what `data.path` stands for by default.
    """

    hub_id: ClassVar[str]

    @classmethod
    def open(cls, *, path: str | None, world_seed: int, subset: str | None = None, **options: Any) -> Self:
        """Read and parse every row, or those of a part; options are those of `rows_of`."""
        key = "name" if cls.subsets == "configurations" else "data_dir"
        splits, content = read_published(path or cls.hub_id, subset, key=key)
        problems: list[str] = []
        drops: Counter[str] = Counter()
        parsed = {
            split: list(cls.parse(rows, split, drops if split == "train" else Counter(), problems, **options))
            for split, rows in splits.items()
        }
        if problems:
            more = len(problems) - _MOST_PROBLEMS
            raise DataError(
                *problems[:_MOST_PROBLEMS], *([f"... and {more} more like these"] if more > 0 else [])
            )
        held_out = {split: rows for split, rows in parsed.items() if split != "train"}
        shares = {f"{split}_share": 0.0 if split in held_out else 0.1 for split in ("test", "dev")}
        divided = split_by_group(parsed["train"], **shares)
        told = [value for value in (subset, *options.values()) if value is not None]
        content_id = "-".join([cls.__name__.lower(), content, *told])
        return cls(content_id, {**divided, **held_out}, drops)

    @classmethod
    def parse(
        cls,
        records: Iterable[Record],
        split: str,
        drops: Counter[str],
        problems: list[str],
        **options: Any,
    ) -> Iterable[Row]:
        """Yield the rows of a split; `drops` takes what cannot be used, `problems` what is not expected."""
        for number, record in enumerate(cls.gather(records), start=1):
            try:
                rows = cls.rows_of(record, split, drops, **options)
            except UnexpectedRowError as error:
                problems.append(f"{split} row {number}: {error}")
                continue
            for row in rows:
                reason = reason_to_drop(row)
                if reason is None:
                    yield row
                else:
                    drops[reason] += 1

    @classmethod
    def gather(cls, records: Iterable[Record]) -> Iterable[Any]:
        """Yield what `rows_of` parses, each record by default."""
        return records

    @classmethod
    @abstractmethod
    def rows_of(cls, record: Any, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Return the preferences or labelled responses of a record; what has none is counted in `drops`.

        Raises:
            UnexpectedRowError: it has another schema.
        """


def text(record: Record, key: str) -> str:
    """Return the text under a key."""
    value = record.get(key)
    if not isinstance(value, str):
        raise UnexpectedRowError(_expected(record, key, "a text"))
    return value


def number(record: Record, key: str) -> float:
    """Return the number under a key; texts like "8.5" count."""
    value = record.get(key)
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UnexpectedRowError(_expected(record, key, "a number")) from None


def flag(record: Record, key: str) -> bool:
    """Return the truth under a key; 0, 1 and their texts count."""
    value = {"1": True, "0": False, "true": True, "false": False}.get(str(record.get(key)).lower())
    if value is None:
        raise UnexpectedRowError(_expected(record, key, "true or false"))
    return value


def turns(record: Record, key: str) -> Prompt:
    """Return the turns under a key: a list of {role, content} or {from, value}, one of them, or a text."""
    value = record.get(key)
    if isinstance(value, str):
        return (Message("user", value),)
    found = []
    for turn in [value] if isinstance(value, Mapping) else value if isinstance(value, list) else [None]:
        role, content = (
            (turn.get("role", turn.get("from")), turn.get("content", turn.get("value")))
            if isinstance(turn, Mapping)
            else (None, None)
        )
        if role not in _ROLES or not isinstance(content, str):
            raise UnexpectedRowError(
                _expected(record, key, "a list of turns with a role (user, assistant, system) and a text")
            )
        found.append(Message(_ROLES[role], content))
    return tuple(found)


def last_text(record: Record, key: str) -> str:
    """Return what the last of the turns under a key says; nothing where there are none."""
    found = turns(record, key)
    return found[-1].content if found else ""


def objects(record: Record, key: str) -> list[Mapping[str, Any]]:
    """Return the objects in the list under a key; none where it is absent or null."""
    value = record.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise UnexpectedRowError(_expected(record, key, "a list of objects"))
    return value


def _expected(record: Record, key: str, what: str) -> str:
    if key not in record:
        return f'"{key}" is missing; expected {what} (found keys: {", ".join(record)})'
    value = repr(record[key])
    return f'"{key}" = {value if len(value) <= 60 else value[:57] + "..."}; expected {what}'


def group_of(prompt: Prompt) -> str:
    """What stays on one side of a split where the data set does not say: the first user turn, normalised."""
    first = next((turn.content for turn in prompt if turn.role == "user"), "")
    return digest(" ".join(first.lower().split()))[:16]


def answer(
    prompt: Prompt, completion: str, *, source: str, group: str | None = None, score: float | None = None
) -> Response:
    """Make a response, grouped by its first user turn unless a group is given."""
    return response(prompt, completion, group_id=group or group_of(prompt), source=source, score=score)
