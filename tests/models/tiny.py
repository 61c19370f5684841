"""A tiny random Llama, its tokenizer, and random rows."""

from __future__ import annotations

import random
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from halobench.data.rows import Row

VOCABULARY = 40


def tiny_llama(seed: int = 0, *, dtype: torch.dtype = torch.float64, **config: Any) -> LlamaForCausalLM:
    """Two layers of width 16, with weights wide enough for far from uniform predictions."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    llama = LlamaForCausalLM(LlamaConfig(**shape | config))
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in llama.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.4, generator=stream)
    return llama.to(dtype).eval()


def tiny_tokenizer(*more: str) -> PreTrainedTokenizerFast:
    """Words w0 ... w38 and the end marker, 40 in all, and whatever else."""
    words = ["<end>", *(f"w{index}" for index in range(VOCABULARY - 1)), *more]
    model = WordLevel({word: index for index, word in enumerate(words)}, unk_token="<end>")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), eos_token="<end>", pad_token="<end>", bos_token="<end>"
    )


def random_row(stream: random.Random, num_prompt: int, num_completion: int, *, desirable: bool = True) -> Row:
    """A row of random tokens."""
    tokens = [stream.randrange(1, VOCABULARY) for _ in range(num_prompt + num_completion)]
    return Row(tuple(tokens[:num_prompt]), tuple(tokens[num_prompt:]), desirable)


def logps_by_hand(model: torch.nn.Module, row: Row) -> torch.Tensor:
    """(C,) log-probabilities of the completion of one row alone, in the model's dtype."""
    tokens = torch.tensor([*row.prompt, *row.completion])
    logps = model(input_ids=tokens[None]).logits[0].log_softmax(-1)
    first = len(row.prompt)
    return torch.stack([logps[t - 1, tokens[t]] for t in range(first, len(tokens))])
