"""The verb that looks at the data of a recipe: what is read, dropped, shown to each loss, and leaked."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from halobench.cli.progress import phase_display
from halobench.compose import compose
from halobench.recipe import Recipe
from halobench.storage import digest

_SHOWN = 100  # characters of an example
_OF_A_VIEW = {
    "labels",
    "label_noise",
    "contradicting_share",
    "contradictions",
    "answers",
    "fraction",
    "desirable_fraction",
    "undesirable_fraction",
    "demonstrations",
}


def data(arguments: argparse.Namespace) -> int:
    """Report on each distinct base selection of a recipe."""
    suite = compose(arguments.recipe, arguments.overrides, arguments.plugin)
    selections: dict[str, list[Recipe]] = {}
    for recipe in suite.recipes:
        if recipe.evaluate == "aligned":
            key = digest([recipe.selection_identity, recipe.data_seed, recipe.split, recipe.world_seed])
            selections.setdefault(key, []).append(recipe)
    with phase_display() as report:
        reports = [_report(recipes, report) for recipes in selections.values()]
    if arguments.json:
        print(json.dumps({"suite": suite.name, "selections": reports}, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join("\n".join(_lines(report)) for report in reports))
    return 0


def _report(recipes: Sequence[Recipe], report: Callable[[str, int, int], None]) -> dict[str, Any]:
    """Everything about the selection that these recipes share."""
    from halobench.data.report import lengths, num_words, summarise
    from halobench.data.sources.files import FileSource
    from halobench.materials import Materials
    from halobench.scoring.leakage import leakage

    materials = Materials(recipes[0], report=report)
    source, feedback = materials.source, materials.feedback
    tokens = materials.tokens
    splits = source.splits if isinstance(source, FileSource) else {}
    return {
        "source": recipes[0].data.source,
        "content": source.content_id,
        "split_seed": recipes[0].data_seed,
        "rows": {split: len(rows) for split, rows in splits.items()},
        **feedback.fingerprint._asdict(),
        **vars(summarise(feedback)),
        "words": {side: found._asdict() for side, found in lengths(feedback, num_words).items()},
        "tokens": {
            side: found._asdict()
            for side, found in lengths(feedback, lambda row: tokens.length(row.response_id)).items()
        },
        "lost": tokens.lost(feedback.responses),
        "leakage": {
            name: {**found._asdict(), "examples": [leak._asdict() for leak in found.examples]}
            for name, found in leakage(materials).items()
        },
        "views": list(_views(recipes)),
    }


def _views(recipes: Sequence[Recipe]) -> Iterator[dict[str, Any]]:
    """What each kind of loss is shown; losses with the same view and weights share a line."""
    from halobench.materials import Materials
    from halobench.training.data import alignment_view

    shown: dict[str, dict[str, Any]] = {}
    losses: dict[str, dict[str, None]] = {}
    known: dict[str, dict[str, Any]] = {}
    for recipe in recipes:
        materials = Materials(recipe)
        stated = recipe.data.model_dump(mode="json", include=_OF_A_VIEW, exclude_defaults=True)
        changes = {key: value for key, value in stated.items() if recipe.method_identity.get(key) is not None}
        key = digest([recipe.view, changes])
        if key not in known:
            view = alignment_view(materials)
            labels = [example.desirable for example in view.examples]
            known[key] = {
                "kind": view.kind,
                "changes": changes,
                "units": len(view.units),
                "desirable": sum(labels),
                "undesirable": len(labels) - sum(labels),
            }
        counts = known[key]
        loss: Any = materials.loss.fitted(counts["desirable"], counts["undesirable"])
        ratio = None
        if hasattr(loss, "lambda_d") and counts["undesirable"] and loss.lambda_u:
            ratio = loss.lambda_d * counts["desirable"] / (loss.lambda_u * counts["undesirable"])
        line = digest([key, ratio])
        shown.setdefault(line, {**counts, "lambda_ratio": ratio})
        losses.setdefault(line, {})[recipe.label] = None
    return ({"rows": list(losses[line]), **view} for line, view in shown.items())


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as text."""
    yield f"{report['source']} ({report['content']}), split seed {report['split_seed']}"
    facts = {
        **{f"rows to use, {split}": count for split, count in report["rows"].items()},
        **{f"dropped: {reason}": count for reason, count in report["drops"].items()},
        **{f"selected of {name}": count for name, count in report["sources"].items()},
        "pairs": report["num_pairs"],
        "prompts": report["num_prompts"],
        "distinct answers": report["num_responses"],
        "desirable": report["num_desirable"],
        "undesirable": report["num_undesirable"],
        "both": report["num_contradictions"],
        **{
            f"{unit}, {side}": _told(found)
            for unit in ("words", "tokens")
            for side, found in report[unit].items()
        },
        **{kind.replace("_", " "): count for kind, count in report["lost"].items()},
        "fingerprint": report["sha256"],
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        yield f"  {name:{width}}  {value}"
    yield ""
    yield f"  {'view':16}{'units':>8}{'desirable':>11}{'undesirable':>13}{'lambda ratio':>14}  rows"
    for view in report["views"]:
        ratio = "-" if view["lambda_ratio"] is None else f"{view['lambda_ratio']:.3f}"
        changes = "".join(f", {key} {value}" for key, value in view["changes"].items())
        yield (
            f"  {view['kind']:16}{view['units']:8}{view['desirable']:11}{view['undesirable']:13}{ratio:>14}"
            f"  {', '.join(view['rows'])}{changes}"
        )
    yield ""
    width = max(map(len, report["leakage"]))
    yield f"  {'trained on, of':{width}}{'texts':>8}{'the same':>11}{'13 words':>11}"
    for name, found in report["leakage"].items():
        yield f"  {name:{width}}{found['num_texts']:8}{found['num_exact']:11}{found['num_overlapping']:11}"
    for name, found in report["leakage"].items():
        for leak in found["examples"]:
            yield f"    {name}: {_short(leak['shared'])!r}"


def _told(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.1f} on average, median {found['median']:g}, at most {found['longest']}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
