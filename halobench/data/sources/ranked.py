"""What sources of scored answers share: the rule that makes pairs or labels of them."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, Self

from halobench.data.binarise import label_answers, quantile_cuts
from halobench.data.pairing import Pairing, pair_up
from halobench.data.sources.files import Row
from halobench.data.sources.published import PublishedSource
from halobench.feedback import Response
from halobench.sections import Binarise
from halobench.storage import digest


class RankedSource(PublishedSource):
    """Several answers to a prompt, with scores, one class per schema.

    Attributes:
        pairing: rule that makes pairs of them, where `data.pairing` names none.
    """

    is_ranked: ClassVar[bool] = True
    pairing: ClassVar[Pairing]

    @classmethod
    def open(
        cls,
        *,
        path: str | None,
        world_seed: int,
        subset: str | None = None,
        binarise: Binarise | None = None,
        **options: Any,
    ) -> Self:
        """Read every answer, and pair them or label each."""
        if binarise is None:
            return super().open(path=path, world_seed=world_seed, subset=subset, **options)
        # the cuts of "quantile" are those of the train answers, so labels come after the split
        single = super().open(path=path, world_seed=world_seed, subset=subset, pairing="single")
        cuts = quantile_cuts([row.winner for row in single.splits["train"]], binarise)
        drops = single.drops
        splits = {
            split: _labelled(rows, binarise, cuts, drops if split == "train" else Counter())
            for split, rows in single.splits.items()
        }
        told = digest(binarise.model_dump(mode="json", exclude_defaults=True))[:8]
        return cls(f"{single.content_id}-{told}", splits, drops)

    @classmethod
    def rows_of(
        cls,
        record: Any,
        split: str,
        drops: Counter[str],
        *,
        pairing: Pairing | Literal["single"] | None = None,
    ) -> Sequence[Row]:
        """Pair the answers to each prompt of a record, or leave them single."""
        found = cls.answers_of(record, drops)
        if pairing == "single":
            return [Row(answer) for answers in found for answer in answers]
        return [
            Row(better, worse)
            for answers in found
            for better, worse in pair_up(answers, pairing or cls.pairing, drops)
        ]

    @classmethod
    @abstractmethod
    def answers_of(cls, record: Any, drops: Counter[str]) -> Iterable[Sequence[Response]]:
        """Yield the scored answers to each prompt of a record; what has no score is counted in `drops`.

        Raises:
            UnexpectedRowError: it has another schema.
        """


def _labelled(
    rows: Sequence[Row], rule: Binarise, cuts: tuple[float, float], drops: Counter[str]
) -> list[Row]:
    by_prompt: dict[str, list[Response]] = {}
    for row in rows:
        by_prompt.setdefault(row.winner.prompt_id, []).append(row.winner)
    return [
        Row(answer, desirable=desirable, origin="score")
        for answers in by_prompt.values()
        for answer, desirable in label_answers(answers, rule, cuts, drops)
    ]
