"""What every contestant trains: models made from configurations, and the same random pairs or examples."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from halobench.data.rows import Row

PAD, BOS, EOS = 0, 1, 2
_FIRST_WORD = 10  # of the random tokens; those before it are reserved
_PAIRS_PER_STEP, _EXAMPLES_PER_STEP = 8, 16
_WEIGHT_STD = 0.02
# As a share of the weights' standard deviation. Log ratios are then several nats and z0 above zero, so that
# contestants that do not read the same tokens, or the same reference, cannot have the same losses.
_REFERENCE_NOISE = 1.0

Precision = Literal["fp32", "bf16"]
LossName = Literal["dpo", "kto"]
Units = list[tuple[Row, ...]]


@dataclass(frozen=True)
class Shape:
    """A Llama with untied embeddings; the names are those of `transformers.LlamaConfig`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int

    @property
    def num_body_weights(self) -> int:
        """Weights that every token is multiplied with: four square matrices and three of the MLP a layer."""
        width = self.hidden_size
        return self.num_hidden_layers * (4 * width * width + 3 * width * self.intermediate_size)

    @property
    def num_head_weights(self) -> int:
        """Weights between a hidden state and the logits."""
        return self.hidden_size * self.vocab_size


MODELS = {
    "tiny": Shape(64, 2, 2, 172, 512),
    "S": Shape(256, 6, 4, 688, 32_000),
    "M": Shape(512, 8, 8, 1408, 50_304),
    "B": Shape(512, 8, 8, 1408, 4096),  # mostly body, as large models are
    "1.4B": Shape(2048, 24, 16, 5504, 50_304),
}


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        model: a name in `MODELS`.
        precision: "bf16" is autocast over float32 weights.
        loss: "dpo" on pairs, "kto" on single completions.
        num_steps: optimizer steps.
        device: "cpu" or "cuda".
    """

    model: str
    precision: Precision
    loss: LossName
    num_steps: int
    device: str

    @property
    def shape(self) -> Shape:
        """Of the model."""
        return MODELS[self.model]

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of a forward pass."""
        context: AbstractContextManager[None] = torch.autocast(
            self.device, torch.bfloat16, enabled=self.precision == "bf16"
        )
        return context

    def policy(self) -> LlamaForCausalLM:
        """Make the model to train, with the same weights for every contestant."""
        shape = self.shape
        model = LlamaForCausalLM(
            LlamaConfig(
                **vars(shape),
                num_key_value_heads=shape.num_attention_heads,
                max_position_embeddings=1024,
                tie_word_embeddings=False,
            )
        )
        _add_noise(model, seed=0, std=_WEIGHT_STD, keep=0.0)
        return model.to(self.device)

    def reference(self) -> LlamaForCausalLM:
        """Make the reference: the policy with noise, so that no log ratio is zero."""
        model = self.policy()
        _add_noise(model, seed=1, std=_REFERENCE_NOISE * _WEIGHT_STD, keep=1.0)
        return model.eval().requires_grad_(False)


@torch.no_grad()
def _add_noise(model: LlamaForCausalLM, *, seed: int, std: float, keep: float) -> None:
    """Add noise to the matrices, after scaling them by `keep`."""
    stream = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            noise = torch.empty(parameter.shape).normal_(std=std, generator=stream)
            parameter.mul_(keep).add_(noise.to(parameter.device))


class Pair(NamedTuple):
    """A prompt and its two completions, as token ids."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def _make_pairs(vocab_size: int, num_pairs: int) -> list[Pair]:
    """Draw pairs of lognormal lengths; the first ones are the same however many are drawn."""
    stream = random.Random(0)

    def length(mean: float, sigma: float, shortest: int, longest: int) -> int:
        drawn = stream.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)
        return max(shortest, min(longest, int(drawn)))

    def words(num_words: int) -> list[int]:
        return [stream.randrange(_FIRST_WORD, vocab_size) for _ in range(num_words)]

    def completion() -> tuple[int, ...]:
        return (*words(length(120, 0.7, 4, 256) - 1), EOS)

    return [
        Pair((BOS, *words(length(150, 0.6, 8, 256) - 1)), completion(), completion())
        for _ in range(num_pairs)
    ]


def make_prompts(vocab_size: int, num_prompts: int) -> list[tuple[int, ...]]:
    """Draw the prompts of so many pairs."""
    return [pair.prompt for pair in _make_pairs(vocab_size, num_prompts)]


@dataclass(frozen=True)
class Work:
    """One optimizer step.

    Attributes:
        units: a pair of rows each, or one row each.
        mismatched: the same prompts with the completions of their neighbours, or None.
    """

    units: Units
    mismatched: Units | None

    @property
    def num_tokens(self) -> int:
        """Tokens of all prompts and completions, a prompt as often as it has completions."""
        return sum(row.length for unit in self.units for row in unit)

    def minimal_flops(self, shape: Shape) -> int:
        """What the matrix products need at least, attention scores not counted.

        6 per weight and token that is trained on and 2 per one that is only scored: prompts once for all
        their completions, the head at completions only, the reference computed before.
        """
        body, head = shape.num_body_weights, shape.num_head_weights
        num_prompt = sum(len(unit[0].prompt) for unit in self.units)
        num_scored = sum(len(row.completion) for unit in self.units for row in unit)
        num_mismatched = sum(len(row.completion) for unit in self.mismatched or () for row in unit)
        trained = 6 * (body * (num_prompt + num_scored) + head * num_scored)
        return trained + 2 * (body + head) * num_mismatched


def make_work(setting: Setting) -> list[Work]:
    """List the steps: 8 pairs each, or for KTO one side of each of 16 pairs, chosen and rejected in turn."""
    per_step = _PAIRS_PER_STEP if setting.loss == "dpo" else _EXAMPLES_PER_STEP
    pairs = iter(_make_pairs(setting.shape.vocab_size, per_step * setting.num_steps))
    steps = [list(islice(pairs, per_step)) for _ in range(setting.num_steps)]
    return [_paired(step) if setting.loss == "dpo" else _unpaired(step) for step in steps]


def _paired(pairs: Sequence[Pair]) -> Work:
    return Work(
        [(Row(pair.prompt, pair.chosen, True), Row(pair.prompt, pair.rejected, False)) for pair in pairs],
        None,
    )


def _unpaired(pairs: Sequence[Pair]) -> Work:
    rows = [
        Row(pair.prompt, pair.rejected if index % 2 else pair.chosen, index % 2 == 0)
        for index, pair in enumerate(pairs)
    ]
    # TRL's rotation: each prompt meets the completion of the example before it
    rotated = [
        row._replace(completion=before.completion)
        for row, before in zip(rows, [rows[-1], *rows[:-1]], strict=True)
    ]
    return Work([(row,) for row in rows], [(row,) for row in rotated])
