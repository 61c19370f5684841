"""What checks share: where a value came from, problems as lines, what is installed, digests of plug-ins."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halobench.errors import HalobenchError
from halobench.storage import digest

Where = Callable[[str], str]


def problems_of(step: Callable[[], Any], place: str) -> list[str]:
    """Take a step, and return the problems that it raises, each after the place they are at."""
    try:
        step()
    except HalobenchError as error:
        return [f"{place}: {problem}" for problem in error.problems]
    return []


def is_installed(module: str) -> bool:
    """Whether a module can be imported; the package that a name is in may be missing too."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def source_digest(loss: type) -> str:
    """Digest of the source file of a plug-in's class, docstrings and comments aside."""
    tree = ast.parse(Path(inspect.getfile(loss)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return digest(ast.unparse(tree))
