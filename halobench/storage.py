"""Files that are whole or absent: canonical JSON, digests, atomic writes, and the folder of artifacts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

# Held while a file takes its final name, so that a worker asked to stop can finish the write in progress.
WRITING = threading.RLock()
_LARGE = 2**26  # bytes that take a noticeable part of a second to digest


def home() -> Path:
    """Folder of everything that can be made again: `HALOBENCH_HOME`, by default `./.halobench`."""
    return Path(os.environ.get("HALOBENCH_HOME", ".halobench"))


def canonical_json(value: Any) -> str:
    """Render as JSON that depends on the value only: sorted keys, two spaces, one line feed at the end."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_json(text: str, *, finite: bool = True) -> Any:
    """Read JSON; what `canonical_json` wrote is finite.

    Raises:
        ValueError: it is no JSON, is nested without end, or holds NaN or an infinity and should not.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        return json.loads(text, parse_constant=refuse if finite else None)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def digest(value: Any) -> str:
    """Sha256 of the compact canonical JSON of `value`, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path) -> str:
    """Sha256 of a file; that of a large one is kept for as long as the file has its place, size and time."""
    status = path.stat()
    if status.st_size < _LARGE:
        return file_digest(path)
    kept = home() / "digests" / digest([str(path.resolve()), status.st_size, status.st_mtime_ns])
    if not kept.is_file():
        write_text(kept, file_digest(path))
    return kept.read_text()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it becomes `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        with WRITING:
            _flush(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; when the block ends well, it replaces `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        with WRITING:
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    _flush(file)
            if path.exists():
                outgoing = path.with_name(f".tmp-{os.getpid()}-old-{path.name}")
                path.rename(outgoing)
                temporary.rename(path)
                shutil.rmtree(outgoing)
            else:
                temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove what killed processes left unfinished below `root`."""
    for path in sorted(root.rglob(".tmp-*")):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class Artifacts:
    """Folders named by what made them, each built once, whoever asks first.

    Args:
        root: folder that holds them; made when the first one is built.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, name: str) -> Path:
        """Where the artifact of this kind and name is, or will be."""
        return self.root / kind / name

    def get(
        self,
        kind: str,
        name: str,
        build: Callable[[Path], None],
        *,
        is_sound: Callable[[Path], bool] = Path.exists,
    ) -> Path:
        """Return the artifact's folder; `build(empty_folder)` makes it, under a lock, unless it is sound."""
        path = self.path(kind, name)
        if not is_sound(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{name}.lock")):
                if not is_sound(path):
                    with atomic_folder(path) as folder:
                        build(folder)
        return path
