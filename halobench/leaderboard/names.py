"""Names that come from results, made such that every table, figure and page can hold them."""

from __future__ import annotations

import re

from halobench.storage import digest

LONGEST = 200
# control characters, what turns the direction of the text after it, halves of surrogate pairs
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def one_line(text: str) -> str:
    """Write a text in one line: white space as one space, for marks that are not seen one that is."""
    return _UNSHOWN.sub("\ufffd", " ".join(text.split()))


def shown_name(name: str) -> str:
    """Write a name in one line, cut where it has no end.

    A name that is cut ends with the beginning of its digest, so that two of them stay two.
    """
    line = one_line(name)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}... {digest(line)[:8]}"
