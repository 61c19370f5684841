"""How large models and data sets are that are not on this machine, by what their authors published."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from halobench.errors import DataError
from halobench.recipe import Recipe
from halobench.registry import SOURCES
from halobench.sections import Data, Part

UNFETCHED = "unfetched "


class Sizes(NamedTuple):
    """What planning needs to know of a data set.

    Attributes:
        pairs: preferences to train on; 0 where it has single answers.
        desirable: distinct answers of that label.
        undesirable: of the other one.
        prompts: distinct prompts to train on.
        test: prompts of the test split.
        prompt_tokens: mean over the responses.
        completion_tokens: likewise.
        assumed: which of these nobody has counted or measured.
    """

    pairs: int
    desirable: int
    undesirable: int
    prompts: int
    test: int
    prompt_tokens: float
    completion_tokens: float
    assumed: tuple[str, ...] = ()


class Unfetched:
    """Stands for a source that is not on this machine while a recipe is planned.

    Args:
        name: of the data sets.
        sizes: what is published of them.
    """

    is_world: ClassVar[bool] = False

    def __init__(self, name: str, sizes: Sizes) -> None:
        self.content_id = UNFETCHED + name
        self.has_pairs = sizes.pairs > 0
        self._sizes = sizes

    def check_selection(self, *, num_pairs: int | None) -> None:
        """Raise where clearly more pairs are asked for than there are."""
        rows = self._sizes.pairs or self._sizes.desirable + self._sizes.undesirable
        if num_pairs is not None and num_pairs > rows:
            raise DataError(f"{num_pairs} pairs are asked for but about {rows} are published; ask for fewer")


def fetch_nothing() -> None:
    """Keep the libraries that know the Hub from asking it, unless the user's HF_HUB_OFFLINE says otherwise.

    Nobody waits for a download, or for a network that is not there, to learn what a run costs. To be called
    before they are imported, which is when they look.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def unfetched(recipe: Recipe) -> list[str]:
    """Models and data sets of a planned recipe that are not on this machine."""
    return [value.removeprefix(UNFETCHED) for value in recipe.content.values() if value.startswith(UNFETCHED)]


def assumptions(recipe: Recipe) -> tuple[str, ...]:
    """What of the published sizes of a planned recipe's data nobody has counted or measured."""
    sizes = sizes_of(recipe.data) if recipe.content["source"].startswith(UNFETCHED) else None
    return () if sizes is None else sizes.assumed


def model_config(path: str) -> dict[str, Any] | None:
    """Return the configuration of a model of the Hub, if it is known here."""
    config: dict[str, Any] | None = _facts("models").get(path)
    return config


def names_of(data: Data) -> list[str]:
    """Names of the data sets that a recipe reads."""
    return [_name(place) for place in data.parts or [data]]


def _name(place: Data | Part) -> str:
    """Hub id of what a source reads, with the subset if there is one."""
    path = place.path or str(getattr(SOURCES[place.source], "hub_id", place.source))
    return path if place.subset is None else f"{path} {place.subset}"


def sizes_of(data: Data) -> Sizes | None:
    """Return the sizes of what a recipe reads, if all of it is known here; of a mixture together."""
    places, names = data.parts or (data,), names_of(data)
    found = [_facts("datasets").get(name) for name in names]
    if any(facts is None for facts in found) or any(
        place.path is not None and Path(place.path).exists() for place in places
    ):
        return None
    parts = _weighed([_sizes(facts) for facts in found if facts is not None], data)
    rows = [part.desirable + part.undesirable for part in parts]

    def mean(values: list[float]) -> float:
        return sum(value * count for value, count in zip(values, rows, strict=True)) / sum(rows)

    return Sizes(
        pairs=sum(part.pairs for part in parts),
        desirable=sum(part.desirable for part in parts),
        undesirable=sum(part.undesirable for part in parts),
        prompts=sum(part.prompts for part in parts),
        test=sum(part.test for part in parts),
        prompt_tokens=mean([part.prompt_tokens for part in parts]),
        completion_tokens=mean([part.completion_tokens for part in parts]),
        assumed=tuple(
            f"{key} of {name}" for name, part in zip(names, parts, strict=True) for key in part.assumed
        ),
    )


def _weighed(parts: list[Sizes], data: Data) -> list[Sizes]:
    """Take of each part of a mixture with weights what is in proportion, as much as they all allow."""
    weights = [part.weight for part in data.parts or () if part.weight is not None]
    if not weights:
        return parts
    most = min(
        (part.pairs or part.desirable + part.undesirable) / w for part, w in zip(parts, weights, strict=True)
    )
    weighed = []
    for part, weight in zip(parts, weights, strict=True):
        kept = most * weight / (part.pairs or part.desirable + part.undesirable)
        counts = {
            key: round(kept * getattr(part, key)) for key in ("pairs", "desirable", "undesirable", "prompts")
        }
        weighed.append(part._replace(**counts))
    return weighed


def _sizes(facts: dict[str, Any]) -> Sizes:
    """Take what is held out from the published rows; each side of a pair counts as one answer."""
    kept = 1 - facts["held_out"]
    pairs = round(kept * facts.get("pairs", 0))
    labels = [pairs or round(kept * facts[key]) for key in ("desirable", "undesirable")]
    return Sizes(
        pairs,
        labels[0],
        labels[1],
        round(kept * facts["prompts"]),
        facts["test"],
        facts["prompt_tokens"],
        facts["completion_tokens"],
        tuple(facts.get("assumed", ())),
    )


@cache
def _facts(name: str) -> dict[str, Any]:
    file = Path(__file__).with_name(f"{name}.yaml")
    facts: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return facts
