"""Where a finished model comes from: a folder, or the Hub, of which only the needed files are fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from halobench.errors import RecipeError
from halobench.sections import Model, Trust
from halobench.storage import digest, known_digest

_DESCRIPTION = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt")  # configuration and tokenizer
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class ModelFiles(NamedTuple):
    """A model that was found.

    Attributes:
        folder: holds its configuration and its tokenizer; the weights of one of the Hub may not be there yet.
        files: names of all its files, those that were not fetched too.
        content: digest of its files, or its commit on the Hub.
    """

    folder: Path
    files: frozenset[str]
    content: str


def is_on_hub(path: str) -> bool:
    """Whether a path means a model of the Hub: it has the form of an id, and there is no such folder."""
    return not Path(path).exists() and _HUB_ID.fullmatch(path) is not None


def find(model: Model) -> ModelFiles:
    """Find a model without its weights.

    Raises:
        RecipeError: it is not there, or the Hub does not give it.
    """
    path = str(model.path)
    if is_on_hub(path):
        return _find_on_hub(path, model.revision, model.trust)
    if model.revision is not None:
        raise RecipeError(
            f"revision = {model.revision!r} is of a model of the Hub, and this is a folder; drop it"
        )
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise RecipeError("no config.json there; give a Hugging Face model folder")
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    content = digest([[file.name, known_digest(file)] for file in files])
    return ModelFiles(folder, frozenset(file.name for file in files), content)


@cache
def _find_on_hub(path: str, revision: str | None, trust: Trust) -> ModelFiles:
    """Ask the Hub once per process: a suite has many points, and its branch may move between two of them."""
    from huggingface_hub import list_repo_files

    folder = _snapshot(path, revision, _patterns(trust))
    try:
        files = frozenset(list_repo_files(path, revision=folder.name))
    except Exception as error:  # of the Hub's HTTP library; but all that is needed may be here from before
        files = frozenset(file.name for file in folder.iterdir())
        if not files & {*_SAFE, *_PICKLED}:
            raise RecipeError(
                f"its weights are not here, and the Hub cannot be reached ({_first(error)})"
            ) from None
    return ModelFiles(folder, files, folder.name)


def fetch(model: Model, *, weights: bool = True) -> Path:
    """Return the folder of a model, fetched from the Hub unless it is here.

    Args:
        model: of a resolved recipe, whose revision is a commit.
        weights: whether they are needed too.

    Raises:
        RecipeError: the Hub does not give it.
    """
    path = str(model.path)
    if not is_on_hub(path):
        return Path(path)
    if not weights:
        return _snapshot(path, model.revision, _patterns(model.trust))
    is_safe = any(name in _SAFE for name in find(model).files)
    kind = "model*.safetensors" if is_safe else "pytorch_model*.bin"
    try:
        return _snapshot(path, model.revision, (*_patterns(model.trust), kind))
    except RecipeError as error:
        raise RecipeError(f"model.path = {path!r}: {error}") from None


def _patterns(trust: Trust) -> tuple[str, ...]:
    return (*_DESCRIPTION, "*.py") if trust.remote_code else _DESCRIPTION


def _snapshot(path: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """Fetch the files of the outermost folder that match; the name of the result is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(path, revision=revision, allow_patterns=list(patterns), ignore_patterns=["*/*"])
        )
    except GatedRepoError:
        raise RecipeError(
            "its owner wants to be asked; accept the terms on its page on the Hub, then `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise RecipeError(f"model.revision = {revision!r} is no branch, tag or commit of it") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise RecipeError("neither a folder nor a model of the Hub; give one of them") from None
    except Exception as error:  # whatever the Hub's HTTP library raises
        raise RecipeError(f"no such folder, and the Hub does not give it ({_first(error)})") from None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(" .")


def weaknesses(found: ModelFiles, trust: Trust) -> Iterator[str]:
    """Tell what keeps a model from being trained: not a causal one, code or pickles that nobody trusts."""
    try:
        config = json.loads((found.folder / "config.json").read_text(encoding="utf-8"))
        kind = str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        yield "its config.json names no model_type; give a Hugging Face model folder"
        return
    yield from _foreign(config, kind, trust)
    if not found.files & set(_SAFE):
        if not found.files & set(_PICKLED):
            yield f"has no weights (none of {', '.join((*_SAFE, *_PICKLED))})"
        elif not trust.pickle:
            yield (
                "its weights are pickled (pytorch_model.bin), which may run code when they are read; convert "
                "them to safetensors, or set model.allow_pickle=true"
            )


def _foreign(config: dict[str, Any], kind: str, trust: Trust) -> Iterator[str]:
    """Tell why transformers would not make a causal language model of a configuration."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if trust.remote_code and "AutoModelForCausalLM" in config.get("auto_map", {}):
        return
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if known is None and "AutoModelForCausalLM" in config.get("auto_map", {}):
        yield "brings code of its own; read it, then set model.trust_remote_code=true"
    elif known is None:
        yield f"is of type {kind!r}, of which transformers has no causal language model; give one"
    else:
        named = config.get("architectures") or []
        if named and not {known, *(known if isinstance(known, tuple) else ())} & set(named):
            yield f"is a {', '.join(named)}, which is no causal language model; give one, as {known} is"


def vocabulary(folder: Path) -> dict[str, int] | None:
    """Tokens to ids of a folder's tokenizer.json; None where it has none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    document = json.loads(file.read_text(encoding="utf-8"))
    tokens = document["model"]["vocab"]
    if isinstance(tokens, list):  # Unigram: tokens with their scores, in order
        tokens = {token: index for index, (token, _) in enumerate(tokens)}
    return {**tokens, **{token["content"]: token["id"] for token in document["added_tokens"]}}
