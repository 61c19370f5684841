"""halobench: which alignment loss makes the better model, by how much, and how sure are we?

Names load when they are first used; importing halobench imports neither torch nor lightning.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halobench.api import export, leaderboard, results, run
    from halobench.errors import DataError, HalobenchError, RecipeError, UnknownNameError
    from halobench.losses.base import (
        Binary,
        Conditional,
        Demonstrations,
        Fraction,
        Logps,
        Loss,
        LossOutput,
        NonNegative,
        Pairs,
        Positive,
        register_loss,
    )
    from halobench.registry import JUDGES, LOSSES, SCORERS, SOURCES

_HOMES = {
    "halobench.api": ("export", "leaderboard", "results", "run"),
    "halobench.errors": ("DataError", "HalobenchError", "RecipeError", "UnknownNameError"),
    "halobench.losses.base": (
        "Binary",
        "Conditional",
        "Demonstrations",
        "Fraction",
        "Logps",
        "Loss",
        "LossOutput",
        "NonNegative",
        "Pairs",
        "Positive",
        "register_loss",
    ),
    "halobench.registry": ("JUDGES", "LOSSES", "SCORERS", "SOURCES"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "JUDGES",
    "LOSSES",
    "SCORERS",
    "SOURCES",
    "Binary",
    "Conditional",
    "DataError",
    "Demonstrations",
    "Fraction",
    "HalobenchError",
    "Logps",
    "Loss",
    "LossOutput",
    "NonNegative",
    "Pairs",
    "Positive",
    "RecipeError",
    "UnknownNameError",
    "export",
    "leaderboard",
    "register_loss",
    "results",
    "run",
]


class _Package(ModuleType):
    """Keeps `halobench.run` and its like the public functions when modules of these names are imported.

    The modules are reached by `from halobench.run import execute`.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'halobench' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
