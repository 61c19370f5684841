"""The verb that searches hyper-parameters: as many random settings of every loss, judged on dev prompts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from halobench.cli.runs import aligned, run_watched
from halobench.compose import compose
from halobench.errors import RecipeError, ResultsError
from halobench.results.store import Store
from halobench.storage import write_text

if TYPE_CHECKING:
    from halobench.leaderboard.tuning import Tuning


def tune(arguments: argparse.Namespace) -> int:
    """Run what is missing of a search, say what it found, and write the chosen values where asked."""
    from halobench.leaderboard.tuning import tunings

    suite = compose(arguments.recipe, arguments.overrides, arguments.plugin)
    if any(recipe.split != "dev" for recipe in suite.recipes):
        raise RecipeError(
            f"split = 'test' in {arguments.recipe}: settings must not be chosen on what judges them; say "
            "split: dev"
        )
    done = run_watched(suite, arguments)
    if done.board is None:
        return 130
    found = [tuning for tuning in tunings(Store(arguments.results)) if tuning.suite == suite.name]
    if not found:
        raise ResultsError(f"{suite.name}: no setting is recorded yet; the lines above say why")
    [tuning] = found
    print("\n".join(_lines(tuning)))
    if arguments.write is not None:
        if tuning.missing:
            raise ResultsError(
                f"{arguments.write}: nothing is written while {tuning.missing} runs are missing; "
                "give the same command again"
            )
        for file in _write(tuning, arguments.recipe, arguments.write):
            print(f"wrote {file}")
    return 1 if done.outcome.failed or done.outcome.skipped else 0


def _lines(tuning: Tuning) -> Iterator[str]:
    """What was found, as text."""
    from halobench.leaderboard.tuning_text import NOTES, chosen_lines, missing

    headers, rows = chosen_lines(tuning)
    yield f"\n{tuning.suite}, {tuning.metric}{missing(tuning)}\n"
    yield from aligned(headers, rows)
    yield ""
    yield from (f"- {note}" for note in NOTES)


def _write(tuning: Tuning, recipe: str, folder: Path) -> Iterator[Path]:
    """Write one file of defaults per loss, with where its values come from."""
    from halobench.leaderboard.tuning import tuned_values

    choices = {row["loss"]: row for row in tuning.chosen.to_dict("records")}
    for loss, values in tuned_values(tuning):
        choice = choices[loss]
        sections: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            section, name = key.split(".", 1)
            sections.setdefault(section, {})[name] = float(value)
        sections["tuning"] = {"trials": int(choice["settings"]), "seeds": int(choice["seeds"])}
        comments = [
            f"Chosen by `halobench tune {recipe}`: {choice['chosen']}, the best of {choice['settings']}",
            f"settings on {choice['seeds']} seeds and dev prompts. {tuning.metric} {choice['tuned']:.3f};",
            f"of the median drawn setting {choice['median']:.3f}, of the default {choice['default']:.3f}.",
        ]
        if "chosen_by_labels" in choice:
            comments.append(
                f"Held-out labels choose {choice['chosen_by_labels']}, with {choice['tuned_by_labels']:.3f}."
            )
        body = "".join(
            f"{section}: {yaml.safe_dump(keys, default_flow_style=True, sort_keys=True).strip()}\n"
            for section, keys in sections.items()
        )
        file = folder / f"{loss}.yaml"
        write_text(file, "".join(f"# {line}\n" for line in comments) + body)
        yield file
