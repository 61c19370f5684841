"""Which base model, and which part of it is trained."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Lt
from pydantic import model_validator

from halobench.sections.base import Count, Positive, Section


class Architecture(Section):
    """A Llama made from scratch; the names are those of `transformers.LlamaConfig`."""

    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    max_position_embeddings: Count = 1024
    tie_word_embeddings: bool = True


class TokenizerFile(Section):
    """A tokenizer from a file or folder, with the special tokens that it does not name itself.

    Attributes:
        path: a `tokenizer.json`, or the folder that holds it.
        eos: token that ends a completion.
        pad: token that fills up rows; by default `eos`.
        bos: token that begins every prompt, if any.
    """

    path: str
    eos: str | None = None
    pad: str | None = None
    bos: str | None = None


class Trust(NamedTuple):
    """What of a model may run code when it is loaded.

    Attributes:
        remote_code: the Python files that it brings.
        pickle: weights that are not safetensors.
    """

    remote_code: bool = False
    pickle: bool = False


class Model(Section):
    """Which base model.

    Attributes:
        path: a Hugging Face model folder, or the id of a model of the Hub.
        revision: branch, tag or commit of a model of the Hub; the resolved recipe names the commit.
        trust_remote_code: whether to run the code that a model brings.
        allow_pickle: whether to read weights that are not safetensors.
        architecture: or a new model; a world then trains it in the stage `base`.
        tokenizer: where the folder has none, or a new model learns from files.
    """

    path: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    architecture: Architecture | None = None
    tokenizer: TokenizerFile | None = None

    @property
    def trust(self) -> Trust:
        """What of it may run code."""
        return Trust(self.trust_remote_code, self.allow_pickle)

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.path is None) == (self.architecture is None):
            raise ValueError(
                "give either model.path (a Hugging Face folder) or model.architecture (a new Llama)"
            )
        return self


class Adapter(Section):
    """Low-rank matrices that are trained beside frozen weights, in the SFT and the alignment stage.

    After a stage they are merged in the dtype of the precision, so that whoever uses the model finds an
    ordinary one; the adapter itself is kept beside it.

    Attributes:
        kind: "lora", or "qlora", which freezes the weights in 4 bits. Merged are those of 4 bits, made plain;
            the reference is the model before it was rounded, so step 0 cannot be checked.
        rank: of the matrices.
        alpha: their product counts alpha / rank times.
        dropout: of what goes into them.
        targets: names of linear layers; "all-linear" is all but the head.
    """

    kind: Literal["lora", "qlora"] = "lora"
    rank: Count = 16
    alpha: Positive = 32
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
