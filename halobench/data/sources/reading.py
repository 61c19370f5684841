"""Rows of a data set as it is published: from the Hub, a folder, or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from halobench.errors import DataError
from halobench.storage import digest, file_digest, home

_LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
_SPLITS = {"train": ("train",), "dev": ("dev", "valid"), "test": ("test", "eval")}  # how their names begin

Record = Mapping[str, Any]


class Published(NamedTuple):
    """What was read.

    Attributes:
        splits: "train", and "dev" and "test" where the data set has them, to its rows.
        content: digest of the rows.
    """

    splits: Mapping[str, Iterable[Record]]
    content: str


def read_published(path: str) -> Published:
    """Read a file, a folder of files or a saved data set, or a data set of the Hub.

    A file, and a folder without one that is named for a split, is all train. Of a data set that calls its
    splits otherwise, those count whose names begin like train, dev or valid, test or eval.

    Raises:
        DataError: there is nothing, or no train split.
    """
    from datasets import disable_progress_bars

    disable_progress_bars()
    place = Path(path)
    if place.is_file():
        return _read_files(path, {"train": [place]})
    if place.is_dir():
        if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _read_saved(path)
        return _read_files(path, _files_by_split(place))
    return _read_hub(path)


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and _loader(file) is not None]
    found: dict[str, list[Path]] = {}
    for file in files:
        split = _split_of(file.name)
        if split is not None:
            found.setdefault(split, []).append(file)
    return found or ({"train": files} if files else {})


def _loader(file: Path) -> str | None:
    return _LOADERS.get(file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix)


def _split_of(name: str) -> str | None:
    for split, beginnings in _SPLITS.items():
        if name.lower().startswith(beginnings):
            return split
    return None


def _read_files(path: str, files: Mapping[str, Sequence[Path]]) -> Published:
    from datasets import load_dataset

    loaders = {_loader(file) for part in files.values() for file in part}
    if "train" not in files or None in loaders:
        raise DataError(
            f"data.path = {path!r}: no file of rows to train on; give a file or a folder with train files, "
            f"one of {', '.join(_LOADERS)} (perhaps .gz)"
        )
    if len(loaders) > 1:
        raise DataError(f"data.path = {path!r}: files of several formats; keep one of them")
    names = {split: [str(file) for file in part] for split, part in files.items()}
    [loader] = loaders
    try:
        rows = load_dataset(loader, data_files=names, cache_dir=str(home() / "datasets"))
    except Exception as error:  # whatever the parser of that format raises
        cause = error.__cause__ or error
        raise DataError(
            f"data.path = {path!r}: cannot be read as {loader} ({str(cause).splitlines()[0]})"
        ) from None
    content = [[split, file_digest(file)] for split, part in sorted(files.items()) for file in part]
    return Published(rows, digest(content)[:16])


def _read_saved(path: str) -> Published:
    from datasets import DatasetDict, load_from_disk

    rows = load_from_disk(path)
    if not isinstance(rows, DatasetDict):
        return Published({"train": rows}, str(rows._fingerprint))
    return _by_split(path, rows)


def _read_hub(path: str) -> Published:
    from datasets import load_dataset

    try:
        rows = load_dataset(path, cache_dir=str(home() / "datasets"))
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        raise DataError(
            f"data.path = {path!r}: neither a file, a folder, nor a data set that can be fetched "
            f"({str(error).splitlines()[0]})"
        ) from None
    return _by_split(path, rows)


def _by_split(path: str, rows: Mapping[str, Any]) -> Published:
    found: dict[str, Any] = {}
    for name in sorted(rows):
        split = _split_of(name)
        if split is not None:
            found.setdefault(split, rows[name])
    if "train" not in found:
        raise DataError(f"data.path = {path!r}: no train split among {', '.join(sorted(rows))}")
    return Published(found, digest([[split, found[split]._fingerprint] for split in sorted(found)])[:16])
