"""Pairs in the form of ShareGPT: a conversation, and two ways to go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource, answer, last_text, turns
from halobench.data.sources.reading import Record
from halobench.registry import SOURCES


@SOURCES.register("sharegpt", source="the form of github.com/hiyouga/LLaMA-Factory's dpo_en_demo")
class ShareGPT(PublishedSource):
    """Rows of {"conversations": [{"from", "value"}], "chosen": {...}, "rejected": {...}}."""

    hub_id: ClassVar[str] = "hiyouga/DPO-En-Zh-20k"

    @classmethod
    def rows_of(cls, record: Record, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse a pair."""
        prompt = turns(record, "conversations")
        chosen, rejected = (
            answer(prompt, last_text(record, key), source="sharegpt") for key in ("chosen", "rejected")
        )
        return [Row(chosen, rejected)]
