"""Stack Exchange: pairs of answers to a question, the one with more votes preferred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource, answer, text
from halobench.data.sources.reading import Record
from halobench.feedback import Message
from halobench.registry import SOURCES


@SOURCES.register("stack_exchange", source="Beeching et al. 2023; Hub id lvwerra/stack-exchange-paired")
class StackExchange(PublishedSource):
    """Stack Exchange's paired answers; on the Hub a subset is a folder, such as data/rl."""

    hub_id: ClassVar[str] = "lvwerra/stack-exchange-paired"
    subsets = "folders"

    @classmethod
    def rows_of(cls, record: Record, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse a pair."""
        prompt = (Message("user", text(record, "question")),)
        better, worse = (
            answer(prompt, text(record, f"response_{side}"), source="stack_exchange") for side in ("j", "k")
        )
        return [Row(better, worse)]
