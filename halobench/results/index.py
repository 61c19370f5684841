"""The index: per-prompt means of score files, kept so that a large store is not read whole every time."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float32

from halobench.results.store import unreadable
from halobench.storage import atomic_file

_LAYOUT = 1
_KEYS = ["prompt_id", "decode", "metric"]


class Values(NamedTuple):
    """One number of a run by prompt, samples averaged.

    Attributes:
        prompt_ids: in order of names.
        means: one per prompt.
    """

    prompt_ids: tuple[str, ...]
    means: Float32[np.ndarray, " prompts"]


Means: TypeAlias = dict[tuple[str, str], Values]  # by decode and metric
Stamp: TypeAlias = tuple[int, ...]


def read_means(file: Path) -> Means:
    """Average the samples of every prompt in a parquet file of scores; one that is no number does not count.

    Raises:
        ResultsError: it is no such file.
    """
    try:
        with pq.ParquetFile(file, read_dictionary=_KEYS) as opened:
            table = opened.read([*_KEYS, "value"], use_threads=False)
        if not table.num_rows:
            return {}
        table = table.unify_dictionaries().combine_chunks()
        keys = [table[name].chunk(0) for name in _KEYS]
        prompts, decodes, metrics = (key.dictionary.to_pylist() for key in keys)
        prompt, decode, metric = (key.indices.to_numpy().astype(np.int64) for key in keys)
        values = table["value"].to_numpy().astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(file, error) from None
    shape = (len(decodes), len(metrics), len(prompts))
    cell = (decode * shape[1] + metric) * shape[2] + prompt
    known = ~np.isnan(values)
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    rows, counts, sums = (
        np.bincount(where, weights, minlength=np.prod(shape)).reshape(shape)[:, :, order]
        for where, weights in ((cell, None), (cell[known], None), (cell[known], values[known]))
    )
    with np.errstate(invalid="ignore"):
        means = (sums / counts).astype(np.float32)
    names = tuple(prompts[at] for at in order)
    found: Means = {}
    for at in np.argwhere(rows.any(axis=2)):
        there = rows[*at] > 0
        ids = names if there.all() else tuple(name for name, is_in in zip(names, there, strict=True) if is_in)
        found[decodes[at[0]], metrics[at[1]]] = Values(ids, means[*at][there])
    return found


class Index:
    """Means of score files that were read before; safe to delete, and never believed of a changed file.

    Args:
        path: of the index, which may be missing, cut short or of another layout: then files are read anew.
        root: folder that the files are in.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._prompt_ids: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._kept = self._load()
        self._asked: dict[Path, tuple[Stamp, Means]] = {}

    def means(self, file: Path) -> Means:
        """Means of a file, from the index if the file is still what it was."""
        if file not in self._asked:
            try:
                stamp = _stamp(file)
            except OSError as error:
                raise unreadable(file, error) from None
            kept = self._kept.get(self._name(file))
            self._asked[file] = kept if kept is not None and kept[0] == stamp else (stamp, self._read(file))
        return self._asked[file][1]

    def save(self) -> None:
        """Keep what was asked for and forget the rest; a folder that cannot be written to goes without."""
        now = {self._name(file): entry for file, entry in sorted(self._asked.items())}
        if now.keys() == self._kept.keys() and all(now[name] is entry for name, entry in self._kept.items()):
            return
        prompts: dict[tuple[str, ...], int] = {}
        entries = []
        values = [np.empty(0, np.float32)]
        for name, (stamp, means) in now.items():
            columns = [
                (*key, prompts.setdefault(each.prompt_ids, len(prompts))) for key, each in means.items()
            ]
            entries.append((name, stamp, columns))
            values += [each.means for each in means.values()]
        facts = json.dumps({"layout": _LAYOUT, "prompts": list(prompts), "entries": entries})
        with suppress(OSError), atomic_file(self._path) as temporary, temporary.open("wb") as file:
            np.savez(file, facts=np.array(facts), values=np.concatenate(values))

    def _name(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()

    def _read(self, file: Path) -> Means:
        return {key: Values(self._same(ids), means) for key, (ids, means) in read_means(file).items()}

    def _same(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """One tuple for all equal ones: most files have the same prompts."""
        return self._prompt_ids.setdefault(ids, ids)

    def _load(self) -> dict[str, tuple[Stamp, Means]]:
        # whatever a damaged index raises, the facts are still there
        with suppress(OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile):
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as opened:
                facts, values = json.loads(str(opened["facts"])), opened["values"]
            if facts["layout"] != _LAYOUT:
                return {}
            prompts = [self._same(tuple(ids)) for ids in facts["prompts"]]
            kept: dict[str, tuple[Stamp, Means]] = {}
            start = 0
            for name, stamp, columns in facts["entries"]:
                means: Means = {}
                for decode, metric, which in columns:
                    stop = start + len(prompts[which])
                    means[decode, metric] = Values(prompts[which], values[start:stop])
                    start = stop
                kept[name] = tuple(stamp), means
            return kept if start == len(values) else {}
        return {}


def _stamp(file: Path) -> Stamp:
    """What changes whenever a file does: its size, times and number, as the file system keeps them."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
