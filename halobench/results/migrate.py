"""Records of earlier layouts, brought forward one version at a time; the files stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

VERSION = 1
Migration = Callable[[dict[str, Any]], dict[str, Any]]
# A version to what makes the next one of it. A new key with a default needs none; a new meaning does.
MIGRATIONS: Mapping[int, Migration] = {}


def migrated(
    document: Any, migrations: Mapping[int, Migration] = MIGRATIONS, latest: int = VERSION
) -> dict[str, Any]:
    """Bring the JSON of a record to the latest layout; without a version it is of the first.

    Raises:
        ValueError: it is no record, or of a later layout.
    """
    if not isinstance(document, dict):
        raise ValueError(f"holds a {type(document).__name__}, not a record")
    version = document.get("schema_version", 1)
    if type(version) is not int or not 1 <= version <= latest:
        raise ValueError(
            f"schema_version = {version!r}: this halobench knows 1 to {latest}; a newer one reads it"
        )
    record = dict(document)
    for known in range(version, latest):
        record = {**migrations[known](record), "schema_version": known + 1}
    return record
