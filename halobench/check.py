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
from halobench.origin import ModelFiles, find, is_on_hub, vocabulary, weaknesses
from halobench.published.sizes import UNFETCHED, Unfetched, model_config, names_of, sizes_of
from halobench.recipe import Recipe
from halobench.registry import JUDGES, LOSSES, SCORERS, SOURCES
from halobench.sections import Data, Model, Online, Origin, Part
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
        _check_data(values.get("data"), values.get("world_seed", 0), where, found, planned)
    else:
        source = _check_source(recipe.data, recipe.world_seed, where, found, planned)
        of_model: list[str] = []
        content = _check_model(recipe, source, where, of_model)
        stand_in = _published_model(recipe) if planned and of_model else {}
        content |= stand_in
        found += [] if stand_in else of_model
        if recipe.reference_model is not None:
            content |= _check_reference(recipe, recipe.reference_model, source, where, found)
        if not planned:  # a plan needs nothing to be installed
            found += _check_adapter(recipe, where)
        found += _check_scorers(recipe, source, where)
        if loss is not None:
            found += _check_pairs(recipe, source, where)
        if (
            source is not None and not isinstance(source, Unfetched) and not source.is_world
        ):  # a world has prompts for sure, and drawing them takes time
            found += _unknown(partial(source.prompt_set, recipe.split), f"data.path{where('data.path')}")
        found += _check_board(recipe, source, where)
        found += _check_world_needs(recipe, source, where)
        online = _check_online(recipe, source, where, content, found)
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


def _check_data(section: Any, world_seed: Any, where: Where, found: list[str], planned: bool) -> None:
    """Check the section `data` of a recipe that is not valid elsewhere."""
    try:
        data = Data.model_validate(section)
    except ValidationError:
        return  # told already
    _check_source(data, world_seed if isinstance(world_seed, int) else 0, where, found, planned)


def _unknown(step: Callable[[], Any], place: str) -> list[str]:
    try:
        step()
    except HalobenchError as error:
        return [f"{place}: {problem}" for problem in error.problems]
    return []


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


def _check_source(
    data: Data, world_seed: int, where: Where, found: list[str], planned: bool
) -> Source | Unfetched | None:
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
    found += _unknown(
        lambda: source.check_selection(num_pairs=data.num_pairs), f"data.num_pairs{where('data.num_pairs')}"
    )
    return source


def _published_model(recipe: Recipe) -> dict[str, str]:
    """What stands for the digest of a model that is not here; nothing where its sizes are not published."""
    path = recipe.model.path
    if path is None or Path(path).exists() or model_config(path) is None:
        return {}
    return {"model": UNFETCHED + path}


def _check_model(
    recipe: Recipe, source: Source | Unfetched | None, where: Where, found: list[str]
) -> dict[str, str]:
    """Return the digests of the model folder and the tokenizer, where there are any."""
    model = recipe.model
    content = {}
    if model.path is not None:
        place = f"model.path = {model.path!r}{where('model.path')}"
        try:
            origin = find(model)
        except RecipeError as error:
            found += [f"{place}: {problem}" for problem in error.problems]
        else:
            content["model"] = origin.content
            found += [f"{place}: {problem}" for problem in weaknesses(origin, model.trust)]
            if model.tokenizer is None:
                found += [f"{place}: {problem}" for problem in _tokenizer_weaknesses(origin)]
    elif model.tokenizer is None and source is not None and not source.is_world:
        found.append(
            f"model.tokenizer{where('model')}: a new model needs a tokenizer; "
            "set model.tokenizer: {path: ..., eos: ...}"
        )
    if model.tokenizer is not None:
        content |= _check_tokenizer(recipe, where, found)
    return content


def _tokenizer_weaknesses(found: ModelFiles) -> list[str]:
    present = [name for name in TOKENIZER_FILES if name in found.files]
    if not present:
        return [
            f"the folder has no tokenizer (none of {', '.join(TOKENIZER_FILES)}); set model.tokenizer.path"
        ]
    missing = [name for name in ("sentencepiece", "google.protobuf") if not _is_installed(name)]
    if present == ["tokenizer.model"] and missing:
        return [f"its tokenizer.model needs {' and '.join(missing)}; pip install 'halobench[sentencepiece]'"]
    return []


def _is_installed(module: str) -> bool:
    """Whether a module can be imported; the package that a name is in may be missing too."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _check_reference(
    recipe: Recipe, model: Model, source: Source | Unfetched | None, where: Where, found: list[str]
) -> dict[str, str]:
    """Return the digest of a reference that is given by its path; it must know the policy's tokens."""
    place = f"reference = {recipe.reference!r}{where('reference')}"
    try:
        origin = find(model)
        own = _vocabulary(recipe, source)
    except RecipeError as error:
        found += [f"{place}: {problem}" for problem in error.problems]
        return {}
    found += [f"{place}: {problem}" for problem in weaknesses(origin, model.trust)]
    theirs = vocabulary(origin.folder)
    if theirs is None:
        found.append(
            f"{place}: has no tokenizer.json, so that nobody knows whether its tokens are the policy's"
        )
    elif own is not None and not own.items() <= theirs.items():
        other = min((index, token) for token, index in own.items() if theirs.get(token) != index)[1]
        found.append(
            f"{place}: has another vocabulary than the policy ({other!r} is not the same token); "
            "give a model with the policy's tokenizer"
        )
    return {"reference": origin.content}


def _vocabulary(recipe: Recipe, source: Source | Unfetched | None) -> dict[str, int] | None:
    """The policy's tokens; None where something else is wrong with them."""
    model = recipe.model
    if model.tokenizer is not None:
        return vocabulary(tokenizer_file(model.tokenizer.path).parent)
    if model.path is not None:
        return vocabulary(find(model).folder)
    world: Any = source
    return None if source is None or not source.is_world else dict(world.tokenizer().get_vocab())


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


def _check_adapter(recipe: Recipe, where: Where) -> list[str]:
    adapter = recipe.adapter
    if adapter is None:
        return []
    place = f"adapter.kind = {adapter.kind!r}{where('adapter')}"
    packages = ["peft"] if adapter.kind == "lora" else ["peft", "bitsandbytes", "accelerate"]
    missing = [name for name in packages if not _is_installed(name)]
    lines = []
    if missing:
        lines.append(f"{place}: needs {' and '.join(missing)}; pip install 'halobench[{adapter.kind}]'")
    if adapter.kind == "qlora" and recipe.execution.strategy == "fsdp":
        lines.append(f"{place}: weights of 4 bits are not sharded; use execution.strategy=ddp, or lora")
    if adapter.kind == "qlora" and recipe.precision == "64-true":
        lines.append(f"{place}: 4 bits are computed with in 16 or 32; use another precision, or lora")
    return lines


def _check_scorers(recipe: Recipe, source: Source | Unfetched | None, where: Where) -> list[str]:
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
    if recipe.scoring.engine == "vllm" and not _is_installed("vllm"):
        lines.append(
            f"scoring.engine = 'vllm'{where('scoring.engine')}: vLLM is not installed; "
            "pip install 'halobench[vllm]', or use halobench"
        )
    return lines


def _check_pairs(recipe: Recipe, source: Source | Unfetched | None, where: Where) -> list[str]:
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


def _check_online(
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
