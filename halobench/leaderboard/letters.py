"""Compact letter display: rows that are not established as different share a letter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_lowercase


def letters(names: Sequence[str], separated: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Give letters to names so that two of them share one if and only if they are not separated.

    Insert and absorb: all names start in one group. Each separated pair splits every group that holds both
    into one without the first and one without the second; a group that is part of another is dropped.

    Args:
        names: distinct, the best first; "a" goes to the first one's group.
        separated: pairs whose direction is established, each in either order.

    Returns:
        Name to its letters, in alphabetical order; after "z" come "a2", "b2", ...

    Source: Piepho 2004, An algorithm for a letter-based representation of all-pairwise comparisons.
    """
    place = {name: index for index, name in enumerate(names)}
    groups = [frozenset(range(len(names)))] if names else []
    for pair in sorted(tuple(sorted((place[first], place[second]))) for first, second in separated):
        split = [group for group in groups if group.issuperset(pair)]
        whole = [group for group in groups if not group.issuperset(pair)]
        for part in (group - {name} for group in split for name in pair):
            if not any(part <= group for group in whole):
                whole = [group for group in whole if not group <= part] + [part]
        groups = whole
    ordered = sorted(groups, key=sorted)
    return {
        name: "".join(_letter(k) for k, group in enumerate(ordered) if index in group)
        for name, index in place.items()
    }


def _letter(index: int) -> str:
    turn, letter = divmod(index, len(ascii_lowercase))
    return ascii_lowercase[letter] + (str(turn + 1) if turn else "")
