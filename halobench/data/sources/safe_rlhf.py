"""PKU-SafeRLHF: pairs judged twice, by how helpful and by how harmless they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource, UnexpectedRowError, answer, number, text
from halobench.data.sources.reading import Record
from halobench.feedback import Message
from halobench.registry import SOURCES


@SOURCES.register("safe_rlhf", source="Ji et al. 2024, arXiv:2406.15513; Hub id PKU-Alignment/PKU-SafeRLHF")
class SafeRLHF(PublishedSource):
    """PKU-SafeRLHF, the more helpful answer preferred; safe_rlhf_harmless prefers the safer one.

    The subsets are named for the model that answers: alpaca-7b, alpaca2-7b and alpaca3-8b.
    """

    hub_id: ClassVar[str] = "PKU-Alignment/PKU-SafeRLHF"
    subsets = "configurations"
    judged_by: ClassVar[str] = "better_response_id"

    @classmethod
    def rows_of(cls, record: Record, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse a pair."""
        prompt = (Message("user", text(record, "prompt")),)
        first, second = (
            answer(prompt, text(record, f"response_{side}"), source="safe_rlhf") for side in (0, 1)
        )
        better = number(record, cls.judged_by)
        if better not in (0, 1):
            raise UnexpectedRowError(f'"{cls.judged_by}" = {record[cls.judged_by]!r}; expected 0 or 1')
        return [Row(first, second) if better == 0 else Row(second, first)]
