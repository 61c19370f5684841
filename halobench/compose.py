"""From a recipe file to its runs: extends, matrix, controls, defaults of the losses, overrides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from halobench.check.point import check_point
from halobench.errors import HalobenchError, RecipeError
from halobench.recipe import Recipe
from halobench.recipe_file import find_recipe, load_yaml, mapping, read_recipe, texts
from halobench.registry import LOSSES, did_you_mean, load_plugin
from halobench.search import search_points

FILE_KEYS = ("extends", "matrix", "controls", "loss_defaults", "search")
_DEFAULT_FILE_KEYS = ("loss", "optim", "tuning")
_SEED_AXES = ("loss", "seed", "base_seed", "world_seed")
COMMAND_LINE = "the command line"


@dataclass
class Point:
    """One point of the matrix: plain values, and which file or option each of them came from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def merge(self, values: dict[str, Any], origin: str) -> None:
        """Lay values (nested, or with dotted keys) over these; another loss replaces the whole loss."""
        for key, value in values.items():
            self._set(tuple(str(key).split(".")), value, origin)

    def _set(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        if path == ("loss",) and isinstance(value, str):
            value = {"name": value}
        if path == ("loss",) and isinstance(value, dict) and "name" in value:
            if self.values.get("loss", {}).get("name") != value["name"]:
                self.values["loss"] = {}  # parameters of one loss never leak into another
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                self._set((*path, str(key)), inner, origin)
            return
        section = self.values
        for part in path[:-1]:
            if not isinstance(section.get(part), dict):
                section[part] = {}
            section = section[part]
        section[path[-1]] = deepcopy(value)
        self.origins[".".join(path)] = origin

    def where(self, key: str) -> str:
        """Say where the value of a dotted key came from."""
        parts = key.split(".")
        for length in range(len(parts), 0, -1):
            if ".".join(parts[:length]) in self.origins:
                return f" in {self.origins['.'.join(parts[:length])]}"
        for length in range(len(parts), 0, -1):  # a section: where the first of its keys came from
            prefix = ".".join(parts[:length]) + "."
            for known, origin in self.origins.items():
                if known.startswith(prefix):
                    return f" in {origin}"
        return ""


@dataclass(frozen=True)
class Suite:
    """The runs of a recipe file.

    Attributes:
        name: of the suite.
        recipes: one per run, in the order of the matrix, controls last.
        notes: what a reader of the plan should know.
    """

    name: str
    recipes: tuple[Recipe, ...]
    notes: tuple[str, ...]


def compose(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    *,
    loss: Mapping[str, Any] | None = None,
    planned: bool = False,
) -> Suite:
    """Expand a recipe file into validated runs.

    Args:
        recipe: path of a YAML file, or the name of a built-in recipe.
        overrides: `key.path=value` each, strongest of all; a varied key's axis is replaced.
        plugins: Python files to import first.
        loss: keys that state a loss which is imported already: `loss`, and `plugins` for the workers.
        planned: whether published sizes may stand for what is not on this machine; such a suite cannot run.

    Raises:
        RecipeError: anything is wrong; one line per problem, all of them at once.
    """
    path = find_recipe(recipe)
    problems: list[str] = []
    nothing: tuple[dict[str, Any], dict[str, str]] = ({}, {})
    document, origins = _collect(problems, lambda: read_recipe(path, str(recipe))) or nothing
    stated = _collect(problems, lambda: _parse_overrides(overrides)) or {}
    asked = [(document.get("plugins", []), str(recipe)), (stated.pop("plugins", []), COMMAND_LINE)]
    files = [
        file
        for value, place in asked
        for file in _collect(problems, partial(texts, "plugins", value, place)) or ()
    ]
    files += plugins
    for plugin in files:
        _collect(problems, partial(load_plugin, plugin))
    if problems:
        raise RecipeError(*problems)

    stated |= {} if loss is None else {"loss": loss["loss"]}
    document["plugins"] = [*files, *(loss or {}).get("plugins", [])]
    document.setdefault("suite", path.stem)
    if "search" in document:
        matrix = mapping(document.get("matrix"))
        changed = {
            key: stated.pop(f"search.{key}") for key in ("trials", "seed") if f"search.{key}" in stated
        }
        drawn = search_points({**mapping(document["search"]), **changed}, str(recipe))
        document["matrix"] = {**matrix, "points": [*_list(matrix.get("points")), *drawn]}
    _declare_family(document)
    points, notes = _points(document, stated, str(recipe), origins)
    recipes = [check_point(p.values, p.where, FILE_KEYS, problems, planned=planned) for p in points]
    _require_applied(stated, points, problems)
    if problems:
        raise RecipeError(*dict.fromkeys(problems))
    valid = tuple(recipe for recipe in recipes if recipe is not None)
    return Suite(str(document["suite"]), valid, tuple(dict.fromkeys(notes)))


def _collect(problems: list[str], step: Callable[[], Any]) -> Any:
    try:
        return step()
    except HalobenchError as error:
        problems.extend(error.problems)
        return None


def _parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    stated: dict[str, Any] = {}
    problems = []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            problems.append(f"{override!r} on the command line: overrides are written key.path=value")
            continue
        try:
            stated[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            problems.append(f"{key} = {text!r} on the command line: is not a YAML value")
    if problems:
        raise RecipeError(*problems)
    return stated


def _points(
    document: dict[str, Any], stated: dict[str, Any], origin: str, origins: Mapping[str, str]
) -> tuple[list[Point], list[str]]:
    """Expand the matrix and the controls of a document into points, weakest layer first."""
    axes = _axes(document, stated)
    plain = {key: value for key, value in document.items() if key not in FILE_KEYS}
    single = {key: value for key, value in stated.items() if key not in axes and key != "loss.name"}
    points: list[Point] = []
    notes: list[str] = []
    stated_keys = {"loss" if key == "loss.name" else key for key in stated}
    for chosen in [*_product(axes, stated_keys), *_control_points(document, axes, origin, stated_keys)]:
        point = Point()
        loss = chosen.get("loss", plain.get("loss"))
        notes += _merge_defaults(point, document.get("loss_defaults"), loss)
        point.merge({key: value for key, value in plain.items() if key != "loss"}, origin)
        point.origins |= {key: origins[key] for key in point.origins if key in origins}
        is_control = bool(chosen.get("control"))
        varied = {**chosen, "loss": loss}
        point.merge({k: v for k, v in varied.items() if is_control or k not in stated_keys}, origin)
        point.merge({k: v for k, v in varied.items() if not is_control and k in stated_keys}, COMMAND_LINE)
        point.merge({k: v for k, v in single.items() if _applies(k, point, is_control)}, COMMAND_LINE)
        points.append(point)
    return points, notes


def _declare_family(document: dict[str, Any]) -> None:
    """Rank the losses of the file's own matrix, whatever the command line adds to them."""
    board = document.get("board", {})
    matrix = mapping(document.get("matrix"))
    points = [mapping(point).get("loss") for point in _list(matrix.get("points"))]
    losses = [
        loss.get("name") if isinstance(loss, dict) else loss for loss in _list(matrix.get("loss")) + points
    ]
    names = list(dict.fromkeys(name for name in losses if isinstance(name, str)))
    if isinstance(board, dict) and "family" not in board and names:
        document["board"] = {**board, "family": names}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _axes(document: dict[str, Any], stated: dict[str, Any]) -> dict[str, list[Any]]:
    """Axes of the matrix; a stated value of a varied key, or a stated loss, replaces the axis."""
    matrix = document.get("matrix") or {}
    if not isinstance(matrix, dict) or not all(
        isinstance(values, list) and values for values in matrix.values()
    ):
        raise RecipeError("matrix: must map each varied key to a list of values")
    if not all(isinstance(point, dict) for point in matrix.get("points", [])):
        raise RecipeError("matrix: each of its points must map keys to values")
    axes = dict(matrix)
    for key, value in stated.items():
        name = "loss" if key == "loss.name" else key
        if name in axes or name in _SEED_AXES:
            axes[name] = value if isinstance(value, list) else [value]
    return axes


def _control_points(
    document: dict[str, Any], axes: dict[str, list[Any]], origin: str, stated_keys: set[str]
) -> Iterator[dict[str, Any]]:
    """Yield the points of the control rows: the matrix's axes but the loss, and what each control sets."""
    controls = document.get("controls") or {}
    if not isinstance(controls, dict) or not all(isinstance(keys, dict) for keys in controls.values()):
        raise RecipeError(f"controls in {origin}: must map the name of each control row to its keys")
    shared = {key: values for key, values in axes.items() if key.partition(".")[0] not in ("loss", "points")}
    for label, keys in controls.items():
        for chosen in _product(shared, stated_keys):
            seed = _shifted(chosen.get("seed", document.get("seed", 0)), keys.get("seed"))
            yield {**chosen, "loss": "sft", **keys, "seed": seed, "label": label, "control": True}


def _product(axes: dict[str, list[Any]], stated_keys: set[str]) -> Iterator[dict[str, Any]]:
    """Yield every combination; a point states several keys, and what the command line states wins over it."""
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        point = chosen.pop("points", {})
        yield {**chosen, **point, **{key: chosen[key] for key in chosen if key in stated_keys}}


def _shifted(seed: Any, wanted: Any) -> Any:
    """The seed of a control: the matrix's, one of its own, or the matrix's plus a shift written "+50"."""
    if isinstance(wanted, str) and wanted.startswith("+") and wanted[1:].isdigit() and isinstance(seed, int):
        return seed + int(wanted)
    return seed if wanted is None else wanted


def _merge_defaults(point: Point, folder: str | None, loss: Any) -> list[str]:
    """Lay the file of the loss's tuned defaults first; return a note where it has none."""
    name = loss.get("name") if isinstance(loss, dict) else loss
    if folder is None or not isinstance(name, str) or name not in LOSSES:
        return []
    file = Path(folder) / f"{name}.yaml"
    notes = []
    if not file.is_file():
        file = Path(folder) / "default.yaml"
        notes.append(f"{name}: no file in {folder}; it runs with its own defaults and those of {file.name}")
    if file.is_file():
        values = load_yaml(file)
        unknown = [key for key in values if key not in _DEFAULT_FILE_KEYS]
        if unknown:
            raise RecipeError(
                f"{', '.join(unknown)} in {file}: defaults of a loss may set only "
                f"{', '.join(_DEFAULT_FILE_KEYS)}; the budget is the suite's"
            )
        parameters = values.get("loss")
        point.merge({**values, "loss": {"name": name, **(parameters or {})}}, str(file))
    return notes


def _applies(key: str, point: Point, is_control: bool) -> bool:
    """Whether a stated key is meant for this point; a parameter only where a compared loss has it."""
    if not key.startswith("loss."):
        return True
    name = mapping(point.values["loss"]).get("name")
    return not is_control and (
        not isinstance(name, str)
        or name not in LOSSES
        or key.removeprefix("loss.") in LOSSES[name].model_fields
    )


def _require_applied(stated: dict[str, Any], points: Sequence[Point], problems: list[str]) -> None:
    compared = [mapping(p.values.get("loss")).get("name") for p in points if not p.values.get("control")]
    losses = sorted({name for name in compared if isinstance(name, str) and name in LOSSES})
    for key in stated:
        parameter = key.removeprefix("loss.")
        if key.startswith("loss.") and parameter != "name":
            if losses and not any(parameter in LOSSES[name].model_fields for name in losses):
                known = {field for name in losses for field in LOSSES[name].model_fields}
                problems.append(
                    f"{key} = {stated[key]!r} in {COMMAND_LINE}: none of {', '.join(losses)} has it"
                    f"{did_you_mean(parameter, known)}"
                )
