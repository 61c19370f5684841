"""Checks the rounds and the judge of online alignment."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from halobench.check.findings import Where, problems_of, source_digest
from halobench.errors import DataError, UnknownNameError
from halobench.published.sizes import Unfetched
from halobench.recipe import Recipe
from halobench.registry import JUDGES
from halobench.sections import Online
from halobench.storage import digest
from halobench.validation import explain

if TYPE_CHECKING:
    from halobench.feedback import Source


def check_online(
    recipe: Recipe, source: Source | Unfetched | None, where: Where, content: dict[str, str], found: list[str]
) -> Online | None:
    """Return the section with all parameters of the judge; `content` gets the digest of what it judges by."""
    data, online = recipe.data, recipe.data.online
    if online is None:
        return None
    place = f"data.online{where('data.online')}"
    if source is not None and not source.has_pairs:
        found.append(f"{place}: counts in pairs, and the rows of {data.source!r} are single answers; drop it")
    elif source is not None and not isinstance(source, Unfetched):
        found += problems_of(partial(_require_rounds, online, data.num_pairs, source), place)
    name = online.judge.get("name")
    if not isinstance(name, str):
        found.append(f"{place}: give data.online.judge the name of a judge, one of {', '.join(JUDGES)}")
        return None
    try:
        judge = JUDGES[name].model_validate({key: v for key, v in online.judge.items() if key != "name"})
        digested = judge.content()
    except ValidationError as error:
        found += explain(error, JUDGES[name], "data.online.judge.", where)
        return None
    except UnknownNameError as error:
        found += [f"data.online.judge.name{where('data.online.judge.name')}: {p}" for p in error.problems]
        return None
    except DataError as error:
        at = f"data.online.judge.path = {online.judge.get('path')!r}{where('data.online.judge.path')}"
        found += [f"{at}: {problem}" for problem in error.problems]
        return None
    if judge.needs_world and source is not None and not source.is_world:
        found.append(
            f"data.online.judge.name = {name!r}{where('data.online.judge.name')}: needs a world that knows "
            f"the true utility, and {data.source!r} is none; use reward_model, or a judge of your own"
        )
    code = None if JUDGES.is_builtin(name) else source_digest(JUDGES[name])
    if digested is not None or code is not None:
        content["judge"] = digest([digested, code])
    return online.model_copy(update={"judge": {"name": name, **judge.model_dump(mode="json")}})


def _require_rounds(online: Online, num_pairs: int | None, source: Source) -> None:
    """Raise unless every round has a pair of the base selection; other problems of it are told elsewhere."""
    try:
        total = num_pairs or len(source.feedback(num_pairs=None, split_seed=0).pairs)
    except DataError:
        return
    if online.rounds > total:
        raise DataError(f"{online.rounds} rounds of {total} pairs; ask for fewer rounds")
