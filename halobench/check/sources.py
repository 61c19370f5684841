"""Checks where feedback comes from, and opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from halobench.check.findings import Where, problems_of
from halobench.errors import DataError, HalobenchError, UnknownNameError
from halobench.published.sizes import Unfetched, names_of, sizes_of
from halobench.recipe import Recipe
from halobench.registry import SOURCES
from halobench.sections import Data, Origin, Part

if TYPE_CHECKING:
    from halobench.feedback import Source


@cache
def _open(name: str, path: str | None, world_seed: int, **options: Any) -> Source:
    source: Any = SOURCES[name]
    if "subset" in options and source.subsets is None:
        raise DataError(
            f"data.subset = {options['subset']!r}: {name!r} does not come in parts; drop it, or use "
            f"one of {_sources(lambda known: known.subsets is not None)}"
        )
    ranked = _sources(lambda known: known.is_ranked)
    if "pairing" in options and not source.is_ranked:
        raise DataError(
            f"data.pairing = {options['pairing']!r}: {name!r} has no several scored answers to pair; "
            f"drop it, or use one of {ranked}"
        )
    if "binarise" in options and not source.is_ranked:
        raise DataError(
            f"data.binarise = {options['binarise'].rule!r}: {name!r} has no several scored answers to label; "
            f"drop it, or use one of {ranked}"
        )
    if "parts" in options:
        options["parts"] = _open_parts(options["parts"], world_seed)
    opened: Source = source.open(path=path, world_seed=world_seed, **options)
    return opened


def _open_parts(parts: Sequence[Part], world_seed: int) -> list[tuple[Part, Source]]:
    opened: list[tuple[Part, Source]] = []
    problems: list[str] = []
    for number, part in enumerate(parts):
        try:
            if SOURCES[part.source].is_world:
                raise DataError(f"{part.source!r} is a world, and only data sets can be mixed; drop it")
            opened.append((part, open_source(part, world_seed)))
        except HalobenchError as error:
            problems += [f"data.parts.{number}: {problem}" for problem in error.problems]
    if problems:
        raise DataError(*problems)
    return opened


def _sources(wanted: Callable[[type[Source]], bool]) -> str:
    return ", ".join(name for name in SOURCES if wanted(SOURCES[name]))


def open_source(origin: Origin, world_seed: int) -> Source:
    """Open a source once per process.

    Raises:
        UnknownNameError: no source has that name.
        DataError: what it finds cannot be used.
    """
    return _open(origin.source, origin.path, world_seed, **origin.options)


def check_source(
    data: Data, world_seed: int, where: Where, found: list[str], planned: bool
) -> Source | Unfetched | None:
    """Open the source of the feedback, or what stands for it in a plan; None where it cannot be used."""
    source: Source | Unfetched
    try:
        source = open_source(data, world_seed)
    except UnknownNameError as error:
        found += [f"data.source{where('data.source')}: {problem}" for problem in error.problems]
        return None
    except HalobenchError as error:
        sizes = sizes_of(data) if planned else None
        if sizes is None:
            found += error.problems
            return None
        source = Unfetched(" + ".join(names_of(data)), sizes)
    found += problems_of(
        lambda: source.check_selection(num_pairs=data.num_pairs), f"data.num_pairs{where('data.num_pairs')}"
    )
    return source


def check_data(section: Any, world_seed: Any, where: Where, found: list[str], planned: bool) -> None:
    """Check the section `data` of a recipe that is not valid elsewhere."""
    try:
        data = Data.model_validate(section)
    except ValidationError:
        return  # told already
    check_source(data, world_seed if isinstance(world_seed, int) else 0, where, found, planned)


def check_pairs(recipe: Recipe, source: Source | Unfetched | None, where: Where) -> list[str]:
    """Say why a loss on pairs would have none."""
    if recipe.evaluate != "aligned" or recipe.view != "Pairs":
        return []
    lines = []
    place = f"loss.name = {recipe.loss['name']!r}{where('loss.name')}: needs pairs"
    if source is not None and not source.has_pairs:
        lines.append(
            f"{place}, and the rows of {recipe.data.source!r} are single answers; use kto, csft or sft"
        )
    if recipe.data.answers == "one_per_prompt":
        lines.append(
            f"{place}, and data.answers = 'one_per_prompt'{where('data.answers')} leaves none; "
            "use kto, csft or sft"
        )
    return lines
