"""UltraFeedback as pairs: HuggingFaceH4's, argilla's cleaned one, and the same as plain texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource
from halobench.data.sources.reading import Record
from halobench.data.sources.trl import preference
from halobench.registry import SOURCES


@SOURCES.register("ultrafeedback", source="Cui et al. 2023, arXiv:2310.01377; Tunstall et al. 2023")
class UltraFeedback(PublishedSource):
    """UltraFeedback's binarised pairs with their GPT-4 scores (HuggingFaceH4, argilla, trl-lib).

    A pair is dropped, and counted, where its scores are equal, its sides say the same or nothing, or their
    prompts differ. argilla/ultrafeedback-binarized-preferences-cleaned leaves out the prompts of TruthfulQA.
    """

    hub_id: ClassVar[str] = "HuggingFaceH4/ultrafeedback_binarized"

    @classmethod
    def rows_of(cls, record: Record, split: str, drops: Counter[str]) -> Sequence[Row]:
        """Parse a pair."""
        return preference(record, drops, source="ultrafeedback")
