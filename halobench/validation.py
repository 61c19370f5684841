"""Turns what pydantic found wrong into one line per problem: the key, the value, the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from halobench.registry import did_you_mean


def explain(
    error: ValidationError,
    model: type[BaseModel],
    prefix: str = "",
    where: Callable[[str], str] = lambda key: "",
    also_known: Iterable[str] = (),
) -> list[str]:
    """List the problems of a validation as `key = value where: what to do`.

    Args:
        error: what pydantic raised.
        model: the class that was validated, for suggestions of misspelt keys.
        prefix: dotted key in front of every location ("loss.").
        where: key to where its value came from (" in recipes/x.yaml"), or nothing.
        also_known: keys of the outermost section that the model itself does not have.
    """
    lines = []
    choices: dict[str, list[str]] = {}  # what a value may be that may be of several kinds
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = (prefix + ".".join(location)).removesuffix(
            "."
        )  # the problem of a whole section has no location
        if _is_choice(model, problem):
            key = prefix + ".".join(location[:-1])
            remedies = choices.setdefault(f"{key} = {problem['input']!r}{where(key)}: ", [])
            remedies.append(_requirement(problem["type"], problem).removeprefix("must be "))
            continue
        place = where(key)
        match problem["type"]:
            case "extra_forbidden":
                known = sorted(
                    [*_fields_at(model, location[:-1]), *(also_known if len(location) == 1 else ())]
                )
                suggestion = did_you_mean(location[-1], known) or f"; known here: {', '.join(known)}"
                lines.append(f"{key} = {problem['input']!r}{place}: unknown key{suggestion}")
            case "missing":
                lines.append(f"{key}{place}: is missing; give it a value")
            case "value_error":
                lines.append(f"{key}{place}: {problem['ctx']['error']}")
            case kind:
                lines.append(f"{key} = {problem['input']!r}{place}: {_requirement(kind, problem)}")
    return lines + [f"{told}must be {', or '.join(remedies)}" for told, remedies in choices.items()]


def _is_choice(model: type[BaseModel], problem: Mapping[str, Any]) -> bool:
    """Whether a value was to be of one of several kinds, and this is about one, which ends its location."""
    if len(problem["loc"]) < 2 or problem["type"] in ("extra_forbidden", "missing", "value_error"):
        return False
    *location, last = problem["loc"]
    names = [str(part) for part in location]
    return (
        isinstance(last, str) and names[-1] in _fields_at(model, names[:-1]) and not _fields_at(model, names)
    )


def _requirement(kind: str, problem: Mapping[str, Any]) -> str:
    context = problem.get("ctx", {})
    match kind:
        case "greater_than":
            return f"must be greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than":
            return f"must be less than {context['lt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "float_parsing" | "float_type":
            return "must be a number"
        case "int_parsing" | "int_type" | "int_from_float":
            return "must be a whole number"
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "literal_error":
            return f"must be one of {context['expected']}"
        case _:
            return str(problem["msg"]).replace("Input should", "must")


def _fields_at(model: type[BaseModel], location: Iterable[str]) -> list[str]:
    """Names of the fields of the section that `location` leads to, following nested models."""
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
