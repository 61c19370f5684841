"""What sources of scored answers share: the rule that makes pairs of them."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from halobench.data.pairing import Pairing, pair_up
from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource
from halobench.feedback import Response


class RankedSource(PublishedSource):
    """Several answers to a prompt, with scores, one class per schema.

    Attributes:
        pairing: rule that makes pairs of them, where `data.pairing` names none.
    """

    is_ranked: ClassVar[bool] = True
    pairing: ClassVar[Pairing]

    @classmethod
    def rows_of(
        cls, record: Any, split: str, drops: Counter[str], *, pairing: Pairing | None = None
    ) -> Sequence[Row]:
        """Pair the answers to each prompt of a record."""
        return [
            Row(better, worse)
            for answers in cls.answers_of(record, drops)
            for better, worse in pair_up(answers, pairing or cls.pairing, drops)
        ]

    @classmethod
    @abstractmethod
    def answers_of(cls, record: Any, drops: Counter[str]) -> Iterable[Sequence[Response]]:
        """Yield the scored answers to each prompt of a record; what has no score is counted in `drops`.

        Raises:
            UnexpectedRowError: it has another schema.
        """
