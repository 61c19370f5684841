"""Checks the model of a recipe: its files, its tokenizer, its reference, its adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halobench.check.findings import Where, is_installed
from halobench.errors import RecipeError
from halobench.origin import ModelFiles, find, vocabulary, weaknesses
from halobench.published.sizes import UNFETCHED, Unfetched, model_config
from halobench.recipe import Recipe
from halobench.sections import Model
from halobench.storage import digest, file_digest

if TYPE_CHECKING:
    from halobench.feedback import Source

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def published_model(recipe: Recipe) -> dict[str, str]:
    """What stands for the digest of a model that is not here; nothing where its sizes are not published."""
    path = recipe.model.path
    if path is None or Path(path).exists() or model_config(path) is None:
        return {}
    return {"model": UNFETCHED + path}


def check_model(
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
    missing = [name for name in ("sentencepiece", "google.protobuf") if not is_installed(name)]
    if present == ["tokenizer.model"] and missing:
        return [f"its tokenizer.model needs {' and '.join(missing)}; pip install 'halobench[sentencepiece]'"]
    return []


def check_reference(
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


def check_compiler(recipe: Recipe, where: Where) -> list[str]:
    """Say that torch.compile would find nothing to make kernels with."""
    tools = ("nvidia-smi", "c++", "g++", "clang++")  # a GPU's kernels need no C++
    if not recipe.execution.compile or any(map(shutil.which, tools)):
        return []
    return [
        f"execution.compile = True{where('execution.compile')}: there is neither a GPU nor a C++ compiler; "
        "install g++, or set it to false"
    ]


def check_adapter(recipe: Recipe, where: Where) -> list[str]:
    """Say what an adapter lacks: packages, or a way to be trained like this."""
    adapter = recipe.adapter
    if adapter is None:
        return []
    place = f"adapter.kind = {adapter.kind!r}{where('adapter')}"
    packages = ["peft"] if adapter.kind == "lora" else ["peft", "bitsandbytes", "accelerate"]
    missing = [name for name in packages if not is_installed(name)]
    lines = []
    if missing:
        lines.append(f"{place}: needs {' and '.join(missing)}; pip install 'halobench[{adapter.kind}]'")
    if adapter.kind == "qlora" and recipe.execution.strategy == "fsdp":
        lines.append(f"{place}: weights of 4 bits are not sharded; use execution.strategy=ddp, or lora")
    if adapter.kind == "qlora" and recipe.precision == "64-true":
        lines.append(f"{place}: 4 bits are computed with in 16 or 32; use another precision, or lora")
    return lines
