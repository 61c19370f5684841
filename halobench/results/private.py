"""Finds in a record what tells about a machine or its owner: paths, hosts, tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_KINDS = {
    "an absolute path": re.compile(r"(?<![\w.:/<])/[\w.~-]+/[\w.~-]|(?<!\w)[A-Za-z]:[\\/]|~/|\\\\\w|file://"),
    "a host": re.compile(
        r"\w://|\w@[\w-]+[.:]|\b(?:\d{1,3}\.){3}\d{1,3}\b|[\w-]\.(?:local|localdomain|internal|lan|corp)\b|localhost"
    ),
    "a token": re.compile(
        r"\bhf_\w{16}|\bsk-[\w-]{16}|\bgh[pousr]_\w{16}|\bgithub_pat_\w{16}|\bxox[abp]-\w|\bAKIA[0-9A-Z]{12}"
        r"|\bAIza[\w-]{20}|\bglpat-[\w-]{16}|\beyJ[\w-]{16}|-----BEGIN "
    ),
}


def private_texts(document: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and the kind of everything in a JSON document that belongs to a machine or a person."""
    if isinstance(document, dict):
        for name, value in document.items():
            place = f"{key}.{name}" if key else str(name)
            yield from ((place, kind) for kind in _kinds(str(name)))
            yield from private_texts(value, place)
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from private_texts(value, f"{key}.{index}")
    elif isinstance(document, str):
        yield from ((key, kind) for kind in _kinds(document))


def _kinds(text: str) -> list[str]:
    return [kind for kind, pattern in _KINDS.items() if pattern.search(text)]
