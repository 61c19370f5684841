"""Checks one point of a matrix against all that it names, before anything runs."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from halobench.check.findings import Where, is_installed, problems_of, source_digest
from halobench.check.models import (
    check_adapter,
    check_compiler,
    check_model,
    check_reference,
    published_model,
)
from halobench.check.online import check_online
from halobench.check.sources import check_data, check_pairs, check_source
from halobench.errors import HalobenchError, RecipeError
from halobench.origin import is_on_hub
from halobench.published.sizes import Unfetched
from halobench.recipe import Recipe
from halobench.registry import LOSSES, SCORERS
from halobench.validation import explain

if TYPE_CHECKING:
    from halobench.feedback import Source

# Keys of lightning.Trainer that halobench sets itself, and where the user says what they mean.
REFUSED_TRAINER_KEYS = {
    "max_steps": "budget.epochs",
    "max_epochs": "budget.epochs",
    "accumulate_grad_batches": "execution.microbatch_tokens",
    "gradient_clip_val": "optim.clip",
    "gradient_clip_algorithm": "optim.clip",
    "use_distributed_sampler": "budget.batch_pairs",
    "callbacks": "execution.checkpoint_every",
    "default_root_dir": "the variable HALOBENCH_HOME",
    "devices": "execution.devices",
    "strategy": "execution.strategy",
    "logger": "execution.logger",
    "precision": "precision",
    "fast_dev_run": "run --limit",
    "limit_train_batches": "data.num_pairs",
    "overfit_batches": "data.num_pairs",
    "max_time": "budget.epochs",
    "min_steps": "budget.epochs",
    "min_epochs": "budget.epochs",
    "enable_progress_bar": "nothing: halobench shows its own progress",
}


def check_point(
    values: dict[str, Any],
    where: Where,
    file_keys: Sequence[str],
    problems: list[str],
    *,
    planned: bool = False,
) -> Recipe | None:
    """Validate a point; what is wrong is appended to `problems`, one line each.

    Args:
        values: nested plain values, as in a recipe file.
        where: dotted key to " in FILE", for messages.
        file_keys: keys that only a recipe file has, for suggestions.
        problems: receives the messages.
        planned: whether published sizes may stand for data sets and models that are not on this machine.

    Returns:
        The recipe, its loss with every parameter and its content digests filled in; None if anything is
        wrong.
    """
    found: list[str] = []
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        found += explain(error, Recipe, where=where, also_known=file_keys)
        recipe = None
    loss = _check_loss(values.get("loss"), where, found)
    found += _check_trainer(values.get("trainer"), where)
    if recipe is None:
        check_data(values.get("data"), values.get("world_seed", 0), where, found, planned)
    else:
        source = check_source(recipe.data, recipe.world_seed, where, found, planned)
        of_model: list[str] = []
        content = check_model(recipe, source, where, of_model)
        stand_in = published_model(recipe) if planned and of_model else {}
        content |= stand_in
        found += [] if stand_in else of_model
        if recipe.reference_model is not None:
            content |= check_reference(recipe, recipe.reference_model, source, where, found)
        if not planned:  # a plan needs nothing to be installed
            found += check_adapter(recipe, where)
            found += check_compiler(recipe, where)
        found += _check_scorers(recipe, source, where)
        if loss is not None:
            found += check_pairs(recipe, source, where)
        if (
            source is not None and not isinstance(source, Unfetched) and not source.is_world
        ):  # a world has prompts for sure, and drawing them takes time
            found += problems_of(partial(source.prompt_set, recipe.split), f"data.path{where('data.path')}")
        found += _check_board(recipe, source, where)
        found += _check_world_needs(recipe, source, where)
        online = check_online(recipe, source, where, content, found)
        if not found and source is not None and loss is not None:
            content["source"] = source.content_id
            if not LOSSES.is_builtin(loss["name"]):
                content["loss"] = source_digest(LOSSES[loss["name"]])
            model = recipe.model
            if model.path is not None and is_on_hub(model.path):
                model = model.model_copy(update={"revision": content["model"]})
            resolved = {
                "loss": loss,
                "data": recipe.data.model_copy(update={"online": online}),
                "model": model,
                "label": recipe.label or recipe.default_label,
                "content": content,
            }
            return recipe.model_copy(update=resolved)
    problems += found
    return None


def _check_loss(loss: Any, where: Where, found: list[str]) -> dict[str, Any] | None:
    """Return the loss with all its parameters."""
    if not isinstance(loss, dict) or "name" not in loss:
        found.append(f"loss{where('loss')}: give the name of a registered loss, see `halobench list losses`")
        return None
    name = loss["name"]
    if not isinstance(name, str):
        found.append(f"loss.name = {name!r}{where('loss.name')}: must be the name of one loss")
        return None
    try:
        registered = LOSSES[name]
    except HalobenchError as error:
        found += [f"loss.name{where('loss.name')}: {problem}" for problem in error.problems]
        return None
    try:
        checked = registered(**{key: value for key, value in loss.items() if key != "name"})
    except RecipeError as error:
        cause = error.__cause__
        found += (
            explain(cause, registered, "loss.", where)
            if isinstance(cause, ValidationError)
            else error.problems
        )
        return None
    return {"name": name, **checked.model_dump(mode="json", exclude_none=True)}


def _check_trainer(trainer: Any, where: Where) -> list[str]:
    if not isinstance(trainer, dict) or not trainer:
        return []
    from lightning import Trainer

    known = [key for key in inspect.signature(Trainer.__init__).parameters if key != "self"]
    lines = []
    for key in trainer:
        place = where(f"trainer.{key}")
        if key in REFUSED_TRAINER_KEYS:
            lines.append(f"trainer.{key}{place}: is set by halobench; use {REFUSED_TRAINER_KEYS[key]}")
        elif key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            lines.append(f"trainer.{key}{place}: lightning.Trainer has no such argument{hint}")
    return lines


def _check_scorers(recipe: Recipe, source: Source | Unfetched | None, where: Where) -> list[str]:
    lines = []
    for name in recipe.scoring.scorers:
        place = f"scoring.scorers{where('scoring.scorers')}"
        unknown = problems_of(partial(SCORERS.__getitem__, name), place)
        lines += unknown
        if not unknown and source is not None and SCORERS[name].needs_world and not source.is_world:
            lines.append(
                f"{place}: {name!r} needs a world that knows the true utility, "
                f"and {recipe.data.source!r} is none; drop it"
            )
    if recipe.scoring.engine == "vllm" and not is_installed("vllm"):
        lines.append(
            f"scoring.engine = 'vllm'{where('scoring.engine')}: vLLM is not installed; "
            "pip install 'halobench[vllm]', or use halobench"
        )
    return lines


def _check_board(recipe: Recipe, source: Source | Unfetched | None, where: Where) -> list[str]:
    metric = recipe.board.metric
    scorer, _, name = metric.partition("/")
    if metric == "implied_reward/accuracy" and source is not None and not source.has_pairs:
        return [
            f"board.metric = {metric!r}{where('board.metric')}: the rows of {recipe.data.source!r} are "
            "single answers; use implied_reward/auc"
        ]
    if scorer in SCORERS and name:
        return []
    return [
        f"board.metric = {metric!r}{where('board.metric')}: must be scorer/metric with one of the scorers "
        f"{', '.join(SCORERS)}"
    ]


def _check_world_needs(recipe: Recipe, source: Source | Unfetched | None, where: Where) -> list[str]:
    if source is None or source.is_world:
        return []
    lines = []
    if recipe.base is not None:
        lines.append(
            f"base{where('base')}: only a world has documents to pre-train on; drop it, or use model.path"
        )
    if recipe.data.demonstrations == "best_of_16":
        lines.append(
            f"data.demonstrations = 'best_of_16'{where('data.demonstrations')}: only a world knows the best; "
            "use chosen"
        )
    return lines
