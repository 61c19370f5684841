"""Registries of losses, sources, scorers and judges: built-ins load when asked for, plug-ins add to them."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Generic, TypeVar
from zlib import crc32

from halobench.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    from halobench.feedback import Source
    from halobench.judges.base import Judge
    from halobench.losses.base import Loss
    from halobench.scoring.base import Scorer

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say which known name is nearest, as a clause to append to a message, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


@dataclass(frozen=True)
class _Entry(Generic[T]):
    value: type[T]
    source: str
    origin: str


class Registry(Generic[T]):
    """Names to classes of one kind.

    Args:
        kind: what the names stand for, used in messages ("loss").
        builtins: name to the module that registers it when imported.
        group: entry-point group through which installed packages add names.
    """

    def __init__(self, kind: str, *, builtins: dict[str, str], group: str) -> None:
        self.kind = kind
        self._builtins = builtins
        self._group = group
        self._entries: dict[str, _Entry[T]] = {}
        self._installed: dict[str, EntryPoint] | None = None

    def register(self, name: str, *, source: str) -> Callable[[type[T]], type[T]]:
        """Return a class decorator that adds the class under `name`.

        Args:
            name: the name in recipes, on the command line and on the board.
            source: where the method is described, for example "arXiv:2402.01306".

        Raises:
            RecipeError: the name is taken by another class.
        """

        def add(value: type[T]) -> type[T]:
            origin = _place(value)
            taken = self._owner(name, value.__module__)
            if taken is not None:
                raise RecipeError(
                    f"{self.kind} {name!r} of {origin} is already registered by {taken}; choose another name"
                )
            self._entries[name] = _Entry(value, source, origin)
            return value

        return add

    def _owner(self, name: str, module: str) -> str | None:
        """Who holds `name` already, unless it is the module that registers it now."""
        if name in self._entries:
            return self._entries[name].origin
        if self._builtins.get(name, module) != module:
            return self._builtins[name]
        installed = self._entry_points().get(name)
        if installed is not None and installed.module != module:
            return f"the installed package {_distribution(installed)}"
        return None

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._installed is None:
            self._installed = {}
            for point in entry_points(group=self._group):
                if point.name in self._builtins or point.name in self._installed:
                    other = self._builtins.get(point.name) or _distribution(self._installed[point.name])
                    raise RecipeError(
                        f"{self.kind} {point.name!r} of the installed package {_distribution(point)} is "
                        f"already registered by {other}; uninstall or rename one of them"
                    )
                self._installed[point.name] = point
        return self._installed

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._builtins, *self._entry_points(), *self._entries}))

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._builtins or name in self._entry_points()

    def __getitem__(self, name: str) -> type[T]:
        """The class registered under `name`, importing the module that defines it if need be.

        Raises:
            UnknownNameError: nothing has that name; the message suggests the nearest.
        """
        return self._load(name).value

    def _load(self, name: str) -> _Entry[T]:
        if name not in self._entries:
            if name in self._builtins:
                importlib.import_module(self._builtins[name])
            elif name in self._entry_points():
                point = self._entry_points()[name]
                try:
                    point.load()
                except RecipeError:
                    raise
                except Exception as error:
                    raise RecipeError(
                        f"{self.kind} {name!r} of the installed package {_distribution(point)} cannot be "
                        f"imported from {point.value}: {type(error).__name__}: {error}; mend or uninstall it"
                    ) from error
                if name not in self._entries:
                    raise RecipeError(
                        f"the installed package {_distribution(point)} announces {self.kind} {name!r} but "
                        f"{point.value} does not register it; decorate the class with that name"
                    )
            else:
                raise UnknownNameError(
                    f"unknown {self.kind} {name!r}{did_you_mean(name, self)}; registered: {', '.join(self)}"
                )
        return self._entries[name]

    def origin(self, name: str) -> str:
        """File and line of the class registered under `name`."""
        return self._load(name).origin

    def source(self, name: str) -> str:
        """Where the method registered under `name` is described."""
        return self._load(name).source

    def forget(self, module: str) -> None:
        """Drop what a module registered before its import failed."""
        self._entries = {
            name: entry for name, entry in self._entries.items() if entry.value.__module__ != module
        }

    def is_loaded(self, name: str) -> bool:
        """Whether the class under `name` has been imported."""
        return name in self._entries

    def is_builtin(self, name: str) -> bool:
        """Whether `name` comes with halobench."""
        return name in self._builtins

    def summary(self, name: str) -> str:
        """First line of the docstring, read from the file of a built-in without importing it."""
        if name not in self._builtins:
            return (inspect.getdoc(self[name]) or "").partition("\n")[0]
        spec = importlib.util.find_spec(self._builtins[name])
        if spec is None or spec.origin is None:
            return ""
        return (ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or "").partition("\n")[0]


def _place(value: type) -> str:
    """File and line of a class, or the module of one that was typed in."""
    try:
        return f"{inspect.getsourcefile(value)}:{inspect.getsourcelines(value)[1]}"
    except (OSError, TypeError):
        return f"{value.__module__}.{value.__qualname__}"


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


LOSSES: Registry[Loss] = Registry(
    "loss",
    builtins={
        name: f"halobench.losses.{name}" for name in ("csft", "dpo", "kto", "offline_ppo", "sft", "slic")
    },
    group="halobench.losses",
)
SOURCES: Registry[Source] = Registry(
    "data source",
    builtins={
        "cafe": "halobench.worlds.cafe",
    }
    | {
        name: f"halobench.data.sources.{name}"
        for name in (
            "hh",
            "helpsteer2",
            "jsonl",
            "kto_mix",
            "mixture",
            "oasst",
            "safe_rlhf",
            "safe_rlhf_harmless",
            "sharegpt",
            "stack_exchange",
            "shp",
            "trl",
            "ultrafeedback",
            "ultrafeedback_ratings",
        )
    },
    group="halobench.sources",
)
SCORERS: Registry[Scorer] = Registry(
    "scorer",
    builtins={
        name: f"halobench.scoring.{name}" for name in ("alpaca_eval", "implied_reward", "lm_eval", "oracle")
    },
    group="halobench.scorers",
)
JUDGES: Registry[Judge] = Registry(
    "judge",
    builtins={name: f"halobench.judges.{name}" for name in ("oracle", "reward_model")},
    group="halobench.judges",
)


def load_plugin(path: str | Path) -> ModuleType:
    """Import the Python file at `path`, once per process, so that what it registers can be used.

    Raises:
        RecipeError: there is no such file, or importing it fails.
    """
    file = Path(path).resolve()
    name = f"halobench_plugin_{file.stem}_{crc32(str(file).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise RecipeError(f"plug-in {path}: no such file; give the path of a Python file")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RecipeError(f"plug-in {path}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # type hints and pickling look the module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        for registry in (LOSSES, SOURCES, SCORERS, JUDGES):
            registry.forget(name)
        if isinstance(error, RecipeError | KeyboardInterrupt):
            raise
        raise RecipeError(f"plug-in {path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module
