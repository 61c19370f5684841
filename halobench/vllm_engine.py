"""Sampling by vLLM, for GPUs: the same requests, another engine's noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from halobench.data.rows import Row
from halobench.generation import Decoding, Request, Sample, entropy, noise_key
from halobench.models.logprobs import batches, predict

_MEMORY_SHARE = 0.35  # of the GPU: the policy and the reference each have an engine beside their own weights
_BIAS = -100.0  # of a banned token's logit; the least that vLLM takes


class VLLMEngine:
    """A model in vLLM, which samples many times as fast as transformers on a GPU.

    Each text has a seed of its own, made of seed, prompt and sample. vLLM rounds differently in another
    batch, so a text may still depend on what it is written with; `halobench.generation` promises more.

    Args:
        folder: the model, a Hugging Face folder.
        model: the same, loaded; it says the entropies, which vLLM does not.
    """

    def __init__(self, folder: Path, model: PreTrainedModel) -> None:
        from vllm import LLM

        self._model = model
        self._engine = LLM(
            model=str(folder),
            dtype=str(model.dtype).removeprefix("torch."),
            skip_tokenizer_init=True,
            enable_prefix_caching=True,
            gpu_memory_utilization=_MEMORY_SHARE,
        )

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Sample]:
        """Sample a text for each request; see `halobench.generation.generate`."""
        from vllm import SamplingParams

        parameters = [
            SamplingParams(
                temperature=decoding.temperature,
                seed=noise_key(decoding.seed, request) >> 32,
                max_tokens=decoding.max_new_tokens,
                stop_token_ids=[decoding.eos],
                ignore_eos=True,  # of the model's own markers
                logit_bias=dict.fromkeys(decoding.banned, _BIAS) or None,
                detokenize=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
        samples = []
        for written in self._engine.generate(prompts, parameters, use_tqdm=False):
            [output] = written.outputs
            tokens, ended = list(output.token_ids), output.finish_reason == "stop"
            if ended and tokens[-1:] != [decoding.eos]:  # left out where it is a special token
                tokens.append(decoding.eos)
            samples.append(Sample(tokens, ended))
        if decoding.temperature > 0:
            for sample, nats in zip(samples, self._entropies(requests, samples, decoding), strict=True):
                sample.entropy = nats
        report(len(samples), len(requests))
        return samples

    @torch.no_grad()
    def _entropies(
        self, requests: Sequence[Request], samples: Sequence[Sample], decoding: Decoding
    ) -> list[float]:
        rows = [
            Row(request.prompt, tuple(sample.tokens), True)
            for request, sample in zip(requests, samples, strict=True)
        ]
        sums = [0.0] * len(rows)
        for part, batch in batches(self._model, rows):
            predictions = predict(self._model, batch)
            predictions.logits[:, list(decoding.banned)] = -torch.inf
            nats = entropy((predictions.logits / decoding.temperature).log_softmax(-1))
            for index, total in zip(part, predictions.sums(nats).tolist(), strict=True):
                sums[index] = total
        return sums
