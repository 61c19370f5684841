"""Recipe files: where they are, what they extend, and which file each key came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from halobench.errors import RecipeError
from halobench.registry import did_you_mean


def recipes_folder() -> Path:
    """Folder of the built-in recipes: inside the installed package, or at the top of a checkout."""
    packaged = Path(__file__).parent / "_recipes"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "recipes"


def builtin_recipes() -> list[str]:
    """Names of the built-in recipes that can be run as they are."""
    folder = recipes_folder()
    parts = ("base", "losses")
    files = (path.relative_to(folder) for path in sorted(folder.rglob("*.yaml")))
    return [str(path.with_suffix("")) for path in files if path.parts[0] not in parts]


def find_recipe(recipe: str | Path) -> Path:
    """Return the file that a path or the name of a built-in recipe means.

    Raises:
        RecipeError: there is none.
    """
    path = Path(recipe)
    if path.is_file():
        return path
    builtin = recipes_folder() / f"{recipe}.yaml"
    if builtin.is_file():
        return builtin
    names = builtin_recipes()
    raise RecipeError(
        f"recipe {str(recipe)!r}: no such file, and no built-in recipe has that name"
        f"{did_you_mean(str(recipe), names)}; built-in: {', '.join(names)}"
    )


def read_recipe(path: Path, name: str, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Load a YAML file with what it extends beneath it, and the file that each key came from."""
    document = load_yaml(path)
    parents = texts("extends", document.pop("extends", []), name)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for parent in parents:
        file = path.parent / parent
        if file.resolve() in (path.resolve(), *above):
            raise RecipeError(f"extends = {parent!r} in {name}: the recipe extends itself; drop it")
        if not file.is_file():
            raise RecipeError(
                f"extends = {parent!r} in {path}: no such file; paths are relative to the recipe"
            )
        lower, places = read_recipe(file, str(file), (*above, path.resolve()))
        merged = _deep_merge(merged, lower)
        origins |= places
    if "loss_defaults" in document:
        [folder] = texts("loss_defaults", document["loss_defaults"], name) or [""]
        document["loss_defaults"] = str(path.parent / folder)
    return _deep_merge(merged, document), origins | dict.fromkeys(_leaves(document), name)


def _leaves(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all values that are no mappings; a matrix and controls count whole."""
    for key, inner in value.items():
        if isinstance(inner, dict) and inner and key not in ("matrix", "controls"):
            yield from _leaves(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def texts(key: str, value: Any, place: str) -> list[str]:
    """A text or a list of texts, as a list."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RecipeError(f"{key} = {value!r} in {place}: must be a path or a list of paths")
    return texts


def load_yaml(path: Path) -> dict[str, Any]:
    """Load one YAML file.

    Raises:
        RecipeError: it is not YAML, or not a mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"{path}{line}: is not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: must be a mapping of keys to values, found {type(document).__name__}")
    return document


def _deep_merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        replaces = key in ("matrix", "loss") or not isinstance(value, dict)
        merged[key] = value if replaces else _deep_merge(mapping(merged.get(key)), value)
    return merged


def mapping(value: Any) -> dict[str, Any]:
    """Return `value` if it is a mapping, else an empty one; what is wrong with it is told elsewhere."""
    return value if isinstance(value, dict) else {}
