"""Models and tokenizers: made from scratch, loaded from folders, saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from halobench.check.models import tokenizer_file
from halobench.origin import fetch
from halobench.sections import Model, Trust
from halobench.storage import digest, known_digest

if TYPE_CHECKING:
    from halobench.worlds.base import World

DTYPES = {
    "32-true": torch.float32,
    "64-true": torch.float64,
    "bf16-mixed": torch.float32,
    "bf16-true": torch.bfloat16,
}
NO_TRUST = Trust()


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_tokenizer(model: Model, world: World | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a recipe means: from its file, the world's, or the model folder's."""
    if model.tokenizer is not None:
        spec = model.tokenizer
        names = {"eos_token": spec.eos, "pad_token": spec.pad or spec.eos, "bos_token": spec.bos}
        given = {name: token for name, token in names.items() if token is not None}
        folder = Path(spec.path)
        if folder.is_dir() and (folder / "tokenizer_config.json").is_file():
            return AutoTokenizer.from_pretrained(folder, **given)
        return PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file(spec.path)), **given)
    if model.path is not None:
        tokenizer = AutoTokenizer.from_pretrained(
            fetch(model, weights=False), trust_remote_code=model.trust_remote_code
        )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer
    if world is None:
        raise ValueError("a new model without a world needs model.tokenizer; check_point refuses this recipe")
    return world.tokenizer()


def new_model(model: Model, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> PreTrainedModel:
    """Make a Llama: embeddings N(0, .02^2), other matrices N(0, 1 / fan_in), output projections half as wide.

    The library's own N(0, .02) everywhere starts models this narrow too close to zero to learn in few steps.
    """
    if model.architecture is None:
        raise ValueError("new_model needs model.architecture")
    shape = model.architecture.model_dump()
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            num_key_value_heads=shape["num_attention_heads"],
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            **shape,
        )
    )
    stream = torch.Generator().manual_seed(seed)
    for name, parameter in llama.named_parameters():
        if parameter.dim() == 2:
            is_output = "o_proj" in name or "down_proj" in name
            std = 0.02 if "embed" in name else parameter.shape[1] ** -0.5 * (0.5 if is_output else 1)
            nn.init.normal_(parameter, std=std, generator=stream)
    return llama


def load_model(
    folder: Path | str,
    precision: str = "32-true",
    trust: Trust = NO_TRUST,
    *,
    quantization: BitsAndBytesConfig | None = None,
) -> PreTrainedModel:
    """Load a Hugging Face folder in the dtype that the precision trains in, without dropout.

    bf16-mixed keeps float32 weights; transformers would otherwise keep whatever dtype the file has.

    Args:
        folder: of the model.
        precision: of the recipe.
        trust: what of it may run code.
        quantization: of the linear layers; None for none.
    """
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        **({} if quantization is None else {"quantization_config": quantization}),
        dtype=DTYPES[precision],
        trust_remote_code=trust.remote_code,
        use_safetensors=None if trust.pickle else True,
    )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)  # families that call functional.dropout
    return model.eval()


def add_control_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: tuple[str, ...]
) -> None:
    """Make sure the tokenizer knows `tokens`, and the model the tokenizer's.

    A tokenizer that already has them keeps its rows.
    """
    unknown = [token for token in tokens if token not in tokenizer.get_vocab()]
    if not unknown:
        return
    num_known = len(tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": unknown}, replace_extra_special_tokens=False)
    add_rows(model, num_known, len(tokenizer))


def add_rows(model: PreTrainedModel, num_known: int, num_tokens: int) -> None:
    """Have embeddings and head know more tokens, whose rows start as the mean of those of the known ones."""
    if num_tokens == num_known:
        return
    if num_tokens > model.get_input_embeddings().weight.shape[0]:  # some models have rows to spare
        model.resize_token_embeddings(num_tokens, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[num_known:num_tokens] = layer.weight[:num_known].mean(0)


def save_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **save: Any) -> None:
    """Write weights, configuration and tokenizer as a Hugging Face folder."""
    model.save_pretrained(folder, **save)
    tokenizer.save_pretrained(folder)


def weights_digest(folder: Path) -> str:
    """Digest of the weight files of a model folder."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    return digest([known_digest(file) for file in files])
