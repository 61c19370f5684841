"""Several data sets as one: HH with SHP and OASST, or two parts of one of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from halobench.data.sources.files import FileSource, Row, feedback_from, select
from halobench.data.sources.published import group_of
from halobench.errors import DataError
from halobench.feedback import Feedback, Source
from halobench.registry import SOURCES
from halobench.sections import Part
from halobench.storage import digest


@SOURCES.register("mixture", source="halobench")
class Mixture(FileSource):
    """The rows of all `data.parts`, each a source with its keys: [{source: hh, weight: 2}, {source: shp}].

    With weights the train rows are drawn in proportion to them: `data.num_pairs` in all, or as many as the
    parts allow; of each part they are the first of a permutation of its own. Without weights nothing is left
    out. A train row is dropped, and counted, where its group or its first user turn is held out in any part.
    Fractions and noise are shares of each part.
    """

    def __init__(
        self, content_id: str, parts: Mapping[str, FileSource], weights: Mapping[str, Fraction]
    ) -> None:
        drops: Counter[str] = Counter()
        for name, part in parts.items():
            drops += Counter({f"{name}: {reason}": count for reason, count in part.drops.items()})
        splits: dict[str, list[Row]] = {
            split: [_named(row, name) for name, part in parts.items() for row in part.splits[split]]
            for split in ("train", "dev", "test")
        }
        super().__init__(content_id, splits, drops)
        self._weights = weights
        self._by_part: dict[str, list[Row]] = {name: [] for name in parts}
        for row in self.splits["train"]:
            self._by_part[row.winner.source].append(row)

    @classmethod
    def open(
        cls, *, path: str | None, world_seed: int, parts: Sequence[tuple[Part, Source]] = (), **options: Any
    ) -> Mixture:
        """Put opened parts together."""
        found: dict[str, FileSource] = {}
        weights: dict[str, Fraction] = {}
        for part, source in parts:
            if not isinstance(source, FileSource):
                raise DataError(f"data.parts: {part.source!r} reads no rows from files; drop it")
            name = _free_name(part, found)
            found[name] = source
            if part.weight is not None:
                weights[name] = Fraction(str(part.weight))  # what was written, not the nearest float
        kinds = {source.has_pairs: name for name, source in found.items()}
        if len(kinds) == 2:
            raise DataError(
                f"data.parts: {kinds[True]!r} has pairs and {kinds[False]!r} single answers, and they do not "
                "mix; give parts of one kind, or label scored answers with binarise"
            )
        told = [[source.content_id, part.weight] for part, source in parts]
        return cls(f"mixture-{digest(told)[:16]}", found, weights)

    @staticmethod
    def groups_of(row: Row) -> tuple[str, ...]:
        """The row's group in its data set, and its first user turn, which names it in every data set."""
        return (row.winner.group_id, group_of(row.winner.prompt))

    def check_selection(self, *, num_pairs: int | None) -> None:
        """Raise unless every part has train rows, and as many as its weight asks for."""
        super().check_selection(num_pairs=num_pairs)
        empty = [name for name, rows in self._by_part.items() if not rows]
        if empty:
            raise DataError(f"there is no row to train on in {', '.join(empty)}; drop it from data.parts")
        for name, count in self._counts(num_pairs).items():
            if count > len(self._by_part[name]):
                raise DataError(
                    f"{num_pairs} pairs by these weights take {count} of {name!r}, which has "
                    f"{len(self._by_part[name])}; ask for fewer, or lower its weight"
                )

    def feedback(self, *, num_pairs: int | None, split_seed: int) -> Feedback:
        """Select train rows, by the weights where there are any."""
        if not self._weights:
            return super().feedback(num_pairs=num_pairs, split_seed=split_seed)
        self.check_selection(num_pairs=num_pairs)
        rows = [
            row
            for name, count in self._counts(num_pairs).items()
            for row in select(self._by_part[name], count, split_seed)
        ]
        return feedback_from(rows, self.drops)

    def _counts(self, num_pairs: int | None) -> dict[str, int]:
        """Train rows of each part; what is left of the whole numbers goes to the largest remainders."""
        total = sum(self._weights.values())
        if not total:
            return {}
        if num_pairs is None:
            num_pairs = min(
                math.floor(len(self._by_part[name]) * total / weight)
                for name, weight in self._weights.items()
            )
        exact = {name: num_pairs * weight / total for name, weight in self._weights.items()}
        counts = {name: math.floor(share) for name, share in exact.items()}
        by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
        for name in by_remainder[: num_pairs - sum(counts.values())]:
            counts[name] += 1
        return counts


def _free_name(part: Part, taken: Mapping[str, Any]) -> str:
    """The source with its subset; a second part of that name is called so."""
    name = part.source if part.subset is None else f"{part.source}/{part.subset}"
    same = sum(known.partition(" ")[0] == name for known in taken)
    return name if not same else f"{name} ({same + 1})"


def _named(row: Row, source: str) -> Row:
    loser = None if row.loser is None else row.loser._replace(source=source)
    return replace(row, winner=row.winner._replace(source=source), loser=loser)
