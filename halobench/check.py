"""Checks one point of a matrix against all that it names, before anything runs."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from halobench.errors import DataError, HalobenchError, RecipeError, UnknownNameError
from halobench.recipe import Recipe
from halobench.registry import JUDGES, LOSSES, SCORERS, SOURCES
from halobench.sections import Data, Online
from halobench.storage import digest, file_digest
from halobench.validation import explain

if TYPE_CHECKING:
    from halobench.feedback import Source

Where = Callable[[str], str]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
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
    values: dict[str, Any], where: Where, file_keys: Sequence[str], problems: list[str]
) -> Recipe | None:
    """Validate a point; what is wrong is appended to `problems`, one line each.

    Args:
        values: nested plain values, as in a recipe file.
        where: dotted key to " in FILE", for messages.
        file_keys: keys that only a recipe file has, for suggestions.
        problems: receives the messages.

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
        _check_data(values.get("data"), values.get("world_seed", 0), where, found)
    else:
        source = _check_source(recipe.data, recipe.world_seed, where, found)
        content = _check_model(recipe, source, where, found)
        found += _check_scorers(recipe, source, where)
        if loss is not None:
            found += _check_pairs(recipe, source, where)
        if (
            source is not None and not source.is_world
        ):  # a world has prompts for sure, and drawing them takes time
            found += _unknown(partial(source.prompt_set, recipe.split), f"data.path{where('data.path')}")
        found += _check_board(recipe, where)
        found += _check_world_needs(recipe, source, where)
        online = _check_online(recipe, source, where, content, found)
        if not found and source is not None and loss is not None:
            content["source"] = source.content_id
            if not LOSSES.is_builtin(loss["name"]):
                content["loss"] = source_digest(LOSSES[loss["name"]])
            label = recipe.label or recipe.default_label
            data = recipe.data.model_copy(update={"online": online})
            return recipe.model_copy(update={"loss": loss, "data": data, "content": content, "label": label})
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


def _check_data(section: Any, world_seed: Any, where: Where, found: list[str]) -> None:
    """Check the section `data` of a recipe that is not valid elsewhere."""
    try:
        data = Data.model_validate(section)
    except ValidationError:
        return  # told already
    _check_source(data, world_seed if isinstance(world_seed, int) else 0, where, found)


def _unknown(step: Callable[[], Any], place: str) -> list[str]:
    try:
        step()
    except HalobenchError as error:
        return [f"{place}: {problem}" for problem in error.problems]
    return []


@cache
def open_source(name: str, path: str | None, pairing: str | None, world_seed: int) -> Source:
    """Open a source once per process.

    Raises:
        UnknownNameError: no source has that name.
        DataError: what it finds cannot be used.
    """
    source = SOURCES[name]
    if pairing is None:
        return source.open(path=path, world_seed=world_seed)
    if not source.is_ranked:
        raise DataError(
            f"data.pairing = {pairing!r}: {name!r} has no several scored answers to pair; drop it, or use "
            f"one of {', '.join(known for known in SOURCES if SOURCES[known].is_ranked)}"
        )
    ranked: Any = source
    opened: Source = ranked.open(path=path, world_seed=world_seed, pairing=pairing)
    return opened


def _check_source(data: Data, world_seed: int, where: Where, found: list[str]) -> Source | None:
    try:
        source = open_source(data.source, data.path, data.pairing, world_seed)
    except UnknownNameError as error:
        found += [f"data.source{where('data.source')}: {problem}" for problem in error.problems]
        return None
    except HalobenchError as error:
        found += error.problems
        return None
    found += _unknown(
        lambda: source.check_selection(num_pairs=data.num_pairs), f"data.num_pairs{where('data.num_pairs')}"
    )
    return source


def _check_model(recipe: Recipe, source: Source | None, where: Where, found: list[str]) -> dict[str, str]:
    """Return the digests of the model folder and the tokenizer, where there are any."""
    model = recipe.model
    content = {}
    if model.path is not None:
        folder = Path(model.path)
        place = f"model.path = {model.path!r}{where('model.path')}"
        if not (folder / "config.json").is_file():
            found.append(f"{place}: no config.json there; give a Hugging Face model folder")
        else:
            content["model"] = digest(
                [[p.name, file_digest(p)] for p in sorted(folder.iterdir()) if p.is_file()]
            )
            if model.tokenizer is None and not any((folder / name).is_file() for name in TOKENIZER_FILES):
                found.append(
                    f"{place}: the folder has no tokenizer (none of {', '.join(TOKENIZER_FILES)}); "
                    "set model.tokenizer.path"
                )
    elif model.tokenizer is None and source is not None and not source.is_world:
        found.append(
            f"model.tokenizer{where('model')}: a new model needs a tokenizer; "
            "set model.tokenizer: {path: ..., eos: ...}"
        )
    if model.tokenizer is not None:
        content |= _check_tokenizer(recipe, where, found)
    return content


def _check_tokenizer(recipe: Recipe, where: Where, found: list[str]) -> dict[str, str]:
    spec = recipe.model.tokenizer
    if spec is None:
        return {}
    place = f"model.tokenizer.path = {spec.path!r}{where('model.tokenizer.path')}"
    file = tokenizer_file(spec.path)
    if not file.is_file():
        found.append(f"{place}: no such file; give a tokenizer.json or the folder that holds it")
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        vocabulary = document["model"]["vocab"]
        if isinstance(vocabulary, list):  # Unigram: tokens with their scores
            vocabulary = [token for token, _ in vocabulary]
        tokens = {*vocabulary, *(token["content"] for token in document["added_tokens"])}
    except (ValueError, KeyError, TypeError):
        found.append(f"{place}: is not a tokenizer of the `tokenizers` library")
        return {}
    for role in ("eos", "pad", "bos"):
        token = getattr(spec, role)
        # a new model gets an embedding for a token that the file lacks; a finished one has none to give
        if token is not None and token not in tokens and recipe.model.path is not None:
            found.append(
                f"model.tokenizer.{role} = {token!r}{where('model.tokenizer')}: is not a token of {spec.path}"
            )
    if spec.eos is None and not (file.parent / "tokenizer_config.json").is_file():
        found.append(f"{place}: names no token that ends a completion; set model.tokenizer.eos")
    return {"tokenizer": digest([file_digest(file), spec.eos, spec.pad, spec.bos])}


def tokenizer_file(path: str) -> Path:
    """The tokenizer.json that a path means: itself, or the one in that folder."""
    return Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)


def _check_scorers(recipe: Recipe, source: Source | None, where: Where) -> list[str]:
    lines = []
    for name in recipe.scoring.scorers:
        place = f"scoring.scorers{where('scoring.scorers')}"
        unknown = _unknown(partial(SCORERS.__getitem__, name), place)
        lines += unknown
        if not unknown and source is not None and SCORERS[name].needs_world and not source.is_world:
            lines.append(
                f"{place}: {name!r} needs a world that knows the true utility, "
                f"and {recipe.data.source!r} is none; drop it"
            )
    if recipe.scoring.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        lines.append(
            f"scoring.engine = 'vllm'{where('scoring.engine')}: vLLM is not installed; "
            "pip install 'halobench[vllm]', or use halobench"
        )
    return lines


def _check_pairs(recipe: Recipe, source: Source | None, where: Where) -> list[str]:
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


def _check_board(recipe: Recipe, where: Where) -> list[str]:
    metric = recipe.board.metric
    scorer, _, name = metric.partition("/")
    if scorer in SCORERS and name:
        return []
    return [
        f"board.metric = {metric!r}{where('board.metric')}: must be scorer/metric with one of the scorers "
        f"{', '.join(SCORERS)}"
    ]


def _check_world_needs(recipe: Recipe, source: Source | None, where: Where) -> list[str]:
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


def _check_online(
    recipe: Recipe, source: Source | None, where: Where, content: dict[str, str], found: list[str]
) -> Online | None:
    """Return the section with all parameters of the judge; `content` gets the digest of what it judges by."""
    data, online = recipe.data, recipe.data.online
    if online is None:
        return None
    place = f"data.online{where('data.online')}"
    if source is not None and not source.has_pairs:
        found.append(f"{place}: counts in pairs, and the rows of {data.source!r} are single answers; drop it")
    elif source is not None:
        found += _unknown(partial(_require_rounds, online, data.num_pairs, source), place)
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


def source_digest(loss: type) -> str:
    """Digest of the source file of a plug-in's class, docstrings and comments aside."""
    tree = ast.parse(Path(inspect.getfile(loss)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return digest(ast.unparse(tree))
