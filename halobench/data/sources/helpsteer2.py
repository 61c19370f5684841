"""HelpSteer2: answers rated by people on five scales, two to a prompt."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, ClassVar, Literal

from halobench.data.pairing import Pairing
from halobench.data.sources.files import Row
from halobench.data.sources.published import answer, number, text
from halobench.data.sources.ranked import RankedSource
from halobench.data.sources.reading import Record
from halobench.feedback import Message, Prompt, Response
from halobench.registry import SOURCES

_MARKER = re.compile(r"\s*<extra_id_1>(User|Assistant)\s*")
_ROLES = {"User": "user", "Assistant": "assistant"}


@SOURCES.register("helpsteer2", source="Wang et al. 2024, arXiv:2406.08673; Hub id nvidia/HelpSteer2")
class HelpSteer2(RankedSource):
    """HelpSteer2's rated answers, paired by their helpfulness (0 to 4); ties are dropped.

    The two answers to a prompt stand in consecutive rows. Later turns of a prompt are marked <extra_id_1>.
    """

    hub_id: ClassVar[str] = "nvidia/HelpSteer2"
    pairing: ClassVar[Pairing] = "all"

    @classmethod
    def gather(cls, records: Iterable[Record]) -> Iterator[list[Record]]:
        """Yield the answers to each prompt."""
        for _, answers in groupby(records, key=lambda record: record.get("prompt")):
            yield list(answers)

    @classmethod
    def rows_of(
        cls,
        record: Any,
        split: str,
        drops: Counter[str],
        *,
        pairing: Pairing | Literal["single"] | None = None,
    ) -> Sequence[Row]:
        """Pair the answers to a prompt, or leave them single; one alone is no pair."""
        if len(record) == 1 and pairing != "single":
            drops["the prompt has one answer"] += 1
        return super().rows_of(record, split, drops, pairing=pairing)

    @classmethod
    def answers_of(cls, record: list[Record], drops: Counter[str]) -> Iterator[list[Response]]:
        """Yield the answers to a prompt."""
        prompt = _turns(text(record[0], "prompt"))
        yield [
            answer(prompt, text(rated, "response"), source="helpsteer2", score=number(rated, "helpfulness"))
            for rated in record
        ]


def _turns(prompt: str) -> Prompt:
    first, *rest = _MARKER.split(prompt)
    found = [Message("user", first)]
    found += [Message(_ROLES[marker], content) for marker, content in zip(rest[::2], rest[1::2], strict=True)]
    if found[-1] == Message("assistant", ""):  # the place of the answer
        found.pop()
    return tuple(found)
