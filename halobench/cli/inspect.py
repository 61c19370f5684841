"""The verbs that look: list, show, sample."""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap
from typing import Any

import yaml

from halobench.compose import compose
from halobench.errors import UnknownNameError
from halobench.published.sizes import fetch_nothing
from halobench.recipe_file import builtin_recipes, recipes_folder
from halobench.registry import JUDGES, LOSSES, SCORERS, SOURCES, Registry, did_you_mean, load_plugin
from halobench.results.imports import Import, import_names, read_import
from halobench.results.journal import retractions
from halobench.results.store import Store
from halobench.storage import write_text
from halobench.worlds.base import World


def list_names(arguments: argparse.Namespace) -> int:
    """List losses, datasets, scorers, judges, recipes, runs or imports."""
    for plugin in arguments.plugin:
        load_plugin(plugin)
    rows = _rows(arguments)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['name']:{width}}  {row['summary']}".rstrip())
    return 0


def _rows(arguments: argparse.Namespace) -> list[dict[str, str]]:
    registries: dict[str, Registry[Any]] = {
        "losses": LOSSES,
        "datasets": SOURCES,
        "scorers": SCORERS,
        "judges": JUDGES,
    }
    if arguments.what in registries:
        registry = registries[arguments.what]
        return [{"name": name, "summary": registry.summary(name)} for name in registry]
    if arguments.what == "recipes":
        return [{"name": name, "summary": _first_comment(name)} for name in builtin_recipes()]
    store = Store(arguments.results)
    if arguments.what == "imports":
        return [{"name": name, "summary": _summary(read_import(store, name))} for name in import_names(store)]
    rows = []
    retracted = retractions(store)
    for record in store.records():
        headline = next((s for s in record.scores if s.metric in ("winrate", "accuracy")), None)
        score = "" if headline is None else f", {headline.task} {headline.metric} {headline.value:.3f}"
        gone = f", retracted: {retracted[record.run_id].reason}" if record.run_id in retracted else ""
        rows.append({"name": record.run_id, "summary": f"{record.kind}, {record.status}{score}{gone}"})
    return rows


def _summary(found: Import) -> str:
    return f"{found.source}, {len(found.scores)} numbers: {found.what}"


def _first_comment(recipe: str) -> str:
    """What the first line of a recipe says of it."""
    line = (recipes_folder() / f"{recipe}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def show(arguments: argparse.Namespace) -> int:
    """Show whatever has that name."""
    for plugin in arguments.plugin:
        load_plugin(plugin)
    name = arguments.name
    if arguments.page is not None:
        from halobench.leaderboard.page import render_run

        write_text(arguments.page, render_run(Store(arguments.results), name))
        print(f"page: {arguments.page}")
    elif name in LOSSES:
        _print(_loss_facts(name), _loss_text(name), arguments.json)
    elif name in SOURCES:
        facts = {"name": name, "description": inspect.getdoc(SOURCES[name]), "source": SOURCES.source(name)}
        _print(facts, _source_text(name), arguments.json)
    elif name in SCORERS or name in JUDGES:
        registries: list[Registry[Any]] = [registry for registry in (SCORERS, JUDGES) if name in registry]
        description = "\n\n".join(inspect.getdoc(registry[name]) or "" for registry in registries)
        facts = {"name": name, "description": description, "source": registries[0].source(name)}
        _print(facts, f"{description}\n\nsource: {facts['source']}", arguments.json)
    elif Store(arguments.results).has_run(name):
        record = Store(arguments.results).record(name)
        text = "\n".join(
            f"{s.scorer:15} {s.task:8} {s.metric:20} {s.value:9.4f}"
            + (f" +- {s.stderr:.4f}" if s.stderr is not None else "")
            for s in record.scores
        )
        dumped = record.model_dump(mode="json")
        facts_text = yaml.safe_dump(
            {
                key: dumped[key]
                for key in ("run_id", "kind", "status", "reason", "seed", "data", "budget", "provenance")
            },
            sort_keys=False,
        )
        _print(dumped, f"{facts_text}\n{text}", arguments.json)
    elif name in import_names(Store(arguments.results)):
        found = read_import(Store(arguments.results), name)
        _print(found.model_dump(mode="json"), _import_text(found), arguments.json)
    elif name in builtin_recipes() or name.endswith((".yaml", ".yml")):
        fetch_nothing()
        suite = compose(name, plugins=arguments.plugin, planned=True)
        first = suite.recipes[0].model_dump(mode="json")
        text = yaml.safe_dump(first, sort_keys=False)
        rows = {recipe.label for recipe in suite.recipes}
        _print(
            {"suite": suite.name, "rows": sorted(rows), "runs": len(suite.recipes), "first": first},
            f"{suite.name}: {len(suite.recipes)} runs; rows: {', '.join(sorted(rows))}\n\nthe first:\n{text}",
            arguments.json,
        )
    else:
        known = [
            *LOSSES,
            *SOURCES,
            *SCORERS,
            *JUDGES,
            *builtin_recipes(),
            *Store(arguments.results).run_ids(),
            *import_names(Store(arguments.results)),
        ]
        raise UnknownNameError(
            f"{name!r}: no loss, data source, scorer, judge, recipe, run or import has that name"
            f"{did_you_mean(name, known)}"
        )
    return 0


def _import_text(found: Import) -> str:
    """An import as text: what it is, what was left out, a line per number."""
    head = found.model_dump(mode="json", exclude={"scores", "schema_version"})
    lines = [
        f"{s.checkpoint:40} {s.task:20} {s.metric:20} {s.value:12.6g}"
        + (f" +- {s.stderr:.3g}" if s.stderr is not None else "")
        + (f" of {s.num_samples}" if s.num_samples is not None else "")
        for s in found.scores
    ]
    return yaml.safe_dump(head, sort_keys=False) + "\n" + "\n".join(lines)


def _print(facts: Any, text: str, as_json: bool) -> None:
    print(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else text.rstrip())


def _loss_facts(name: str) -> dict[str, Any]:
    loss = LOSSES[name]
    return {
        "name": name,
        "view": loss.view().__name__,
        "needs_reference": loss.needs_reference,
        "value_head": loss.value_head,
        "control_tokens": list(loss.control_tokens),
        "per": loss.per,
        "version": loss.version,
        "source": LOSSES.source(name),
        "defined": LOSSES.origin(name),
        "description": inspect.getdoc(loss),
        "parameters": loss.model_json_schema().get("properties", {}),
    }


def _loss_text(name: str) -> str:
    facts = _loss_facts(name)
    parameters = [
        f"  {key} = {value.get('default')!r}" + _bounds(value) for key, value in facts["parameters"].items()
    ]
    traits = [f"trained on {facts['view']}", f"averaged per {facts['per']}"]
    traits += ["needs a reference"] if facts["needs_reference"] else []
    traits += ["has a value head"] if facts["value_head"] else []
    return "\n".join(
        [
            f"{name}: {facts['description']}",
            "",
            *(["parameters:", *parameters, ""] if parameters else []),
            ", ".join(traits),
            f"source: {facts['source']}",
            f"defined in {facts['defined']}",
        ]
    )


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "exclusiveMinimum": "greater than",
        "minimum": "at least",
        "exclusiveMaximum": "less than",
        "maximum": "at most",
    }
    bounds = [f"{word} {schema[key]:g}" for key, word in words.items() if key in schema]
    choices = [f"one of {', '.join(map(str, schema['enum']))}"] if "enum" in schema else []
    return f"  ({', '.join([*bounds, *choices])})" if bounds or choices else ""


def _source_text(name: str) -> str:
    source = SOURCES[name]
    text = f"{name}: {inspect.getdoc(source)}\n\nsource: {SOURCES.source(name)}"
    world = source.open(path=None, world_seed=0) if source.is_world else None
    return f"{text}\n\n{world.describe()}" if isinstance(world, World) else text


def sample(arguments: argparse.Namespace) -> int:
    """Ask the policy of a run and the model it started from the same prompt with the same noise."""
    from halobench.sampling import answer_both

    store = Store(arguments.results)
    record = store.record(arguments.run_id)
    answers = answer_both(record, arguments.prompt, temperature=arguments.temperature, seed=arguments.seed)
    for who, text, components in answers:
        print(f"{who}:")
        print(textwrap.indent(text, "  "))
        if components is not None:
            parts = ", ".join(f"{key} {value:+.2f}" for key, value in components.items())
            print(f"  utility {sum(components.values()):+.2f} ({parts})")
    return 0
