"""Random search: as many settings of every loss, drawn from priors that were declared before."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from annotated_types import Ge
from pydantic import ValidationError

from halobench.errors import RecipeError, UnknownNameError
from halobench.registry import LOSSES, did_you_mean
from halobench.sections import Optim, Positive, Section
from halobench.validation import explain

DEFAULT = "default"
_DIGITS = 3  # significant ones of a drawn value, so that a recipe can state it


class Search(Section):
    """What is drawn.

    Attributes:
        trials: settings of every loss, beside its own defaults.
        seed: of the draws; nothing else moves them, so more trials begin with the same ones.
        priors: loss to key to the ends of its log-uniform prior; keys are optim.lr or loss.<parameter>.
    """

    trials: Annotated[int, Ge(2)]
    seed: int = 0
    priors: dict[str, dict[str, tuple[Positive, Positive]]]


def search_points(stated: Any, place: str) -> list[dict[str, Any]]:
    """Expand the section `search` of a recipe into points of its matrix: the default of every loss first.

    Args:
        stated: the section, as the recipe has it.
        place: the recipe, for what is wrong.

    Raises:
        RecipeError: it is not valid; all problems at once.
    """
    try:
        search = Search.model_validate(stated)
    except ValidationError as error:
        raise RecipeError(*explain(error, Search, "search.", lambda _: f" in {place}")) from None
    problems = [
        f"search.priors.{key} in {place}: {problem}"
        for loss, priors in search.priors.items()
        for key, problem in _problems(loss, priors)
    ]
    if problems or not search.priors:
        raise RecipeError(*problems or [f"search.priors in {place}: names no loss; give each its priors"])
    return [point for loss in search.priors for point in _points(search, loss)]


def _points(search: Search, loss: str) -> Iterator[dict[str, Any]]:
    yield {"loss": loss, "label": label_of(loss, None)}
    for trial in range(1, search.trials + 1):
        stream = random.Random(f"search-{search.seed}-{loss}-{trial}")
        drawn = {key: _log_uniform(stream, *ends) for key, ends in sorted(search.priors[loss].items())}
        parameters = {key.removeprefix("loss."): v for key, v in drawn.items() if key.startswith("loss.")}
        others = {key: value for key, value in drawn.items() if not key.startswith("loss.")}
        yield {"loss": {"name": loss, **parameters}, **others, "label": label_of(loss, trial)}


def label_of(loss: str, trial: int | None) -> str:
    """Name of a setting; None is the default."""
    return f"{loss} {DEFAULT if trial is None else f'{trial:02}'}"


def _log_uniform(stream: random.Random, low: float, high: float) -> float:
    drawn = math.exp(stream.uniform(math.log(low), math.log(high)))
    return float(f"{drawn:.{_DIGITS}g}")


def _problems(loss: str, priors: Mapping[str, tuple[float, float]]) -> Iterator[tuple[str, str]]:
    """Yield key and problem."""
    try:
        fields = LOSSES[loss].model_fields
    except UnknownNameError as error:
        yield loss, str(error)
        return
    if not priors:
        yield loss, "has nothing to draw; give it optim.lr at least"
    known = [*(f"loss.{name}" for name in fields), *(f"optim.{name}" for name in Optim.model_fields)]
    for key, (low, high) in priors.items():
        if key not in known:
            yield f"{loss}.{key}", f"{loss} has no such key{did_you_mean(key, known)}"
        elif not low < high:
            yield f"{loss}.{key}", f"[{low:g}, {high:g}] must go up; swap them"
