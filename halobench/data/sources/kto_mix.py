"""Feedback that was never paired: single answers with a thumb."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource
from halobench.data.sources.reading import Record
from halobench.data.sources.trl import labelled
from halobench.registry import SOURCES


@SOURCES.register("kto_mix", source="Hub id trl-lib/kto-mix-14k")
class KTOMix(PublishedSource):
    """The KTO mix, and whatever has its form: prompt, completion and label, or messages and label."""

    hub_id: ClassVar[str] = "trl-lib/kto-mix-14k"

    @classmethod
    def rows_of(cls, record: Record, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse a labelled answer."""
        return labelled(record, source="kto_mix")
