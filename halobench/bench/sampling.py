"""Sampling against transformers' `generate`: `python -m halobench.bench.sampling`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, LogitsProcessor, LogitsProcessorList

from halobench.bench.clock import now, positive
from halobench.bench.report import about_the_machine, ratios, spread
from halobench.bench.workload import EOS, MODELS, PAD, Setting, make_prompts
from halobench.errors import TrainingError
from halobench.generation import Decoding, Request, generate, gumbel, noise_key
from halobench.storage import canonical_json, write_text

_MEAN_LENGTH, _LONGEST = 120, 256  # of the texts; the mean without the limit
_NUM_PROMPTS = 32
_SEED = 0
_OURS = "halobench"

Texts = list[list[int]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the record, print it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m halobench.bench.sampling",
        description="Measure how fast halobench samples, and transformers' generate, the same texts.",
    )
    parser.add_argument("--model", choices=MODELS, default="S")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder; the record goes to bench/"
    )
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        record = compete(parsed.model, parsed.rounds, parsed.device)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_text(parsed.results / "bench" / f"sampling-{parsed.model}-fp32.json", canonical_json(record))
    print(f"{parsed.model} fp32 on {parsed.device}: {parsed.rounds} rounds of {record['texts']} texts")
    for name, row in record["contestants"].items():
        speed, ratio = row["tokens_per_second"], row["times_as_long_as_halobench"]
        print(
            f"{name:16} {speed['median']:6.0f} tokens/s [{speed['low']:.0f}-{speed['high']:.0f}]"
            f"   {ratio['median']:.2f} times as long [{ratio['low']:.2f}-{ratio['high']:.2f}]"
        )
    return 0


def compete(model_name: str, rounds: int, device: str) -> dict[str, Any]:
    """Let everybody write the same texts in turn, the order reversed every round, and return the record.

    Raises:
        TrainingError: the texts differ.
    """
    model = make_model(model_name, device)
    prompts = make_prompts(model.config.vocab_size, _NUM_PROMPTS)
    contestants: dict[str, Callable[[], Texts]] = {
        _OURS: partial(write_with_halobench, model, prompts),
        "transformers-16": partial(write_with_transformers, model, prompts, batch=16),
        "transformers-32": partial(write_with_transformers, model, prompts, batch=32),
    }
    expected = contestants[_OURS]()  # and warm up
    num_tokens = sum(map(len, expected))
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds):
        for name in contestants if round_ % 2 == 0 else reversed(contestants):
            began = now(device)
            texts = contestants[name]()
            seconds[name].append(now(device) - began)
            differing = sum(text != other for text, other in zip(texts, expected, strict=True))
            if differing > len(texts) // 16:  # rounding turns a near tie now and then
                raise TrainingError(f"{name} wrote {differing} of {len(texts)} texts otherwise than {_OURS}")
            print(f"{name}: round {round_ + 1} of {rounds}, {seconds[name][-1]:.2f} s", file=sys.stderr)
    return {
        "setting": {"model": model_name, "precision": "fp32", "device": device, "rounds": rounds},
        "texts": len(expected),
        "tokens": num_tokens,
        "contestants": {
            name: {
                "seconds": laps,
                "tokens_per_second": spread([num_tokens / lap for lap in laps]),
                "times_as_long_as_halobench": ratios(laps, seconds[_OURS]),
            }
            for name, laps in seconds.items()
        },
        **about_the_machine(device),
    }


def make_model(name: str, device: str) -> LlamaForCausalLM:
    """The benchmark's random model, with a head that ends a text once in `_MEAN_LENGTH` tokens."""
    model = Setting(name, "fp32", "dpo", 1, device).policy().eval()
    head = nn.Linear(model.config.hidden_size, model.config.vocab_size).to(device)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[EOS] = math.log(model.config.vocab_size / (_MEAN_LENGTH - 1))
    model.lm_head = head
    return model


def write_with_halobench(model: LlamaForCausalLM, prompts: Sequence[tuple[int, ...]]) -> Texts:
    """A text for each prompt."""
    requests = [Request(str(index), 0, prompt) for index, prompt in enumerate(prompts)]
    decoding = Decoding(temperature=1.0, seed=_SEED, max_new_tokens=_LONGEST, eos=EOS, pad=PAD)
    samples = generate(model, requests, decoding)
    return [sample.tokens for sample in samples]


class _Noise(LogitsProcessor):  # type: ignore[misc]  # mypy skips transformers
    """Adds halobench's noise, so that the most likely token is the one that halobench draws."""

    def __init__(self, keys: Tensor, width: int) -> None:
        self._keys, self._width = keys, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        position = input_ids.shape[1] - self._width
        return gumbel(self._keys, position, scores.shape[-1]).add(scores.log_softmax(-1))


@torch.no_grad()
def write_with_transformers(
    model: LlamaForCausalLM, prompts: Sequence[tuple[int, ...]], *, batch: int
) -> Texts:
    """The same texts by `generate`, in batches of so many prompts in their order."""
    texts: Texts = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        width = max(map(len, part))
        ids = torch.tensor([[PAD] * (width - len(prompt)) + list(prompt) for prompt in part])
        attention = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in part])
        keys = torch.tensor(
            [noise_key(_SEED, Request(str(start + index), 0, prompt)) for index, prompt in enumerate(part)]
        )
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=attention.to(model.device),
            do_sample=False,
            max_new_tokens=_LONGEST,
            eos_token_id=EOS,
            pad_token_id=PAD,
            logits_processor=LogitsProcessorList([_Noise(keys.to(model.device), width)]),
        )
        for row in written[:, width:].tolist():
            texts.append(row[: row.index(EOS) + 1] if EOS in row else row)
    return texts


if __name__ == "__main__":
    sys.exit(main())
