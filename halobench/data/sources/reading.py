"""Rows of a data set as it is published: from the Hub, a folder, or a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from halobench.errors import DataError
from halobench.storage import digest, file_digest, home

_LOADERS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
_SPLITS = {"train": ("train",), "dev": ("dev", "valid"), "test": ("test", "eval")}  # how their names begin
_PAIRS = "pref"  # in the name of a split that holds preferences beside others of the same rows

Record = Mapping[str, Any]


class Published(NamedTuple):
    """What was read.

    Attributes:
        splits: "train", and "dev" and "test" where the data set has them, to its rows.
        content: digest of the rows.
    """

    splits: Mapping[str, Iterable[Record]]
    content: str


def read_published(path: str, subset: str | None = None, *, key: str = "data_dir") -> Published:
    """Read a file, a folder of files or a saved data set, or a data set of the Hub.

    A file, and a folder without one that is named for a split, is all train. Of a data set that calls its
    splits otherwise, those count whose names begin like train, dev or valid, test or eval; where there are
    several (train_gen, train_prefs, train_sft), that of the preferences, or the first.

    Args:
        path: of the file or folder, or the id of the data set.
        subset: the part that is read: of a folder that folder in it, of a data set of the Hub what its loader
            knows by that name.
        key: what the loader calls a part, "data_dir" or "name".

    Raises:
        DataError: there is nothing, no such part, or no train split.
    """
    from datasets import disable_progress_bars

    disable_progress_bars()
    place = Path(path)
    if place.is_file():
        if subset is not None:
            raise DataError(f"data.subset = {subset!r}: {path} is one file and has no parts; drop it")
        return _read_files(path, {"train": [place]})
    if place.is_dir():
        if subset is not None:
            place = _part(place, subset)
        if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return _read_saved(str(place))
        return _read_files(str(place), _files_by_split(place))
    return _read_hub(path, {} if subset is None else {key: subset})


def _part(folder: Path, subset: str) -> Path:
    holders = {parent for file in _files(folder) for parent in file.parents if folder in parent.parents}
    parts = {part.relative_to(folder).as_posix(): part for part in sorted(holders)}
    if subset not in parts:
        found = f"there are {', '.join(parts)}" if parts else "it has no folders with rows; drop it"
        raise DataError(f"data.subset = {subset!r}: no such folder in {folder}; {found}")
    return parts[subset]


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and _loader(file) is not None]


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    files = _files(folder)
    found: dict[str, list[Path]] = {}
    for file in files:
        split = _split_of(file.name)
        if split is not None:
            found.setdefault(split, []).append(file)
    of_pairs = {
        split: [file for file in part if _PAIRS in file.name.lower()] for split, part in found.items()
    }
    return {split: of_pairs[split] or part for split, part in found.items()} or (
        {"train": files} if files else {}
    )


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


def _read_hub(path: str, part: dict[str, str]) -> Published:
    from datasets import load_dataset

    try:
        rows = load_dataset(path, cache_dir=str(home() / "datasets"), **part)
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        subset = "".join(f" with data.subset = {name!r}" for name in part.values())
        raise DataError(
            f"data.path = {path!r}{subset}: neither a file, a folder, nor a data set that can be fetched "
            f"({' '.join(str(error).split())})"
        ) from None
    return _by_split(path, rows)


def _by_split(path: str, rows: Mapping[str, Any]) -> Published:
    found: dict[str, Any] = {}
    for name in sorted(rows, key=lambda name: (_PAIRS not in name.lower(), name)):
        split = _split_of(name)
        if split is not None:
            found.setdefault(split, rows[name])
    if "train" not in found:
        raise DataError(f"data.path = {path!r}: no train split among {', '.join(sorted(rows))}")
    return Published(found, digest([[split, found[split]._fingerprint] for split in sorted(found)])[:16])
