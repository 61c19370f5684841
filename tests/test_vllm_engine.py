"""Sampling by vLLM, with a stand-in for it: what is asked of it, and what is made of its answers."""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from halobench.generation import Decoding, generate
from halobench.vllm_engine import VLLMEngine
from tests.test_generation import EOS, PAD, llama, requests, tokens

BANNED = [3, 4]


@dataclass
class SamplingParams:
    """Those of vLLM that are used."""

    temperature: float
    seed: int
    max_tokens: int
    stop_token_ids: list
    ignore_eos: bool
    logit_bias: dict | None
    detokenize: bool


@dataclass
class LLM:
    """Answers like vLLM, one text after the other and without a cache."""

    model: str
    dtype: str
    skip_tokenizer_init: bool
    enable_prefix_caching: bool
    gpu_memory_utilization: float
    tells_special_tokens: bool = field(default=False)

    def generate(self, prompts, parameters, *, use_tqdm):
        network = AutoModelForCausalLM.from_pretrained(self.model, dtype=getattr(torch, self.dtype))
        answers = []
        for prompt, asked in zip(prompts, parameters, strict=True):
            stream = torch.Generator().manual_seed(asked.seed)
            written, reason = [], "length"
            while len(written) < asked.max_tokens and reason == "length":
                ids = torch.tensor([prompt["prompt_token_ids"] + written])
                with torch.no_grad():
                    logits = network(ids).logits[0, -1]
                for token, bias in (asked.logit_bias or {}).items():
                    logits[token] += bias
                if asked.temperature == 0:
                    token = int(logits.argmax())
                else:
                    weights = (logits / asked.temperature).softmax(-1)
                    token = int(torch.multinomial(weights, 1, generator=stream))
                written.append(token)
                if token in asked.stop_token_ids:
                    reason = "stop"
            if reason == "stop" and not self.tells_special_tokens:
                written.pop()
            answers.append(
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(written), finish_reason=reason)])
            )
        return answers


@pytest.fixture
def engine(tmp_path, monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    model = llama()
    model.save_pretrained(tmp_path)
    return VLLMEngine(tmp_path, model)


def decoding(temperature, *, seed=0, banned=()):
    return Decoding(temperature=temperature, seed=seed, max_new_tokens=9, eos=EOS, pad=PAD, banned=banned)


def ask(engine, asked, *, temperature, seed=0, banned=(), **keys):
    return engine.generate(asked, decoding(temperature, seed=seed, banned=banned), **keys)


@pytest.mark.parametrize("tells_special_tokens", [True, False])
def test_greedy_texts_are_those_of_our_own_engine(engine, tells_special_tokens):
    engine._engine.tells_special_tokens = tells_special_tokens
    asked = requests(20, 1)
    ours = generate(llama(), asked, decoding(0.0, banned=BANNED))
    theirs = ask(engine, asked, temperature=0.0, banned=BANNED)
    assert tokens(theirs) == tokens(ours)
    assert [row.ended for row in theirs] == [row.ended for row in ours]
    assert {row.ended for row in theirs} == {True, False}
    assert [row.entropy for row in theirs] == [0.0] * 20


def test_a_text_depends_on_seed_prompt_and_sample_alone(engine):
    asked = requests()
    together = tokens(ask(engine, asked, temperature=1.0))
    assert tokens(ask(engine, asked[::-1], temperature=1.0))[::-1] == together
    assert tokens(ask(engine, asked, temperature=1.0, seed=1)) != together
    assert len(set(together[:3])) == 3  # three samples of one prompt


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_is_that_of_what_the_tokens_were_drawn_from(engine, temperature):
    model = llama()
    asked = requests(6, 2)
    for request, row in zip(asked, ask(engine, asked, temperature=temperature, banned=BANNED), strict=True):
        assert not {*row.tokens} & {*BANNED}
        nats = 0.0
        for position in range(len(row.tokens)):
            with torch.no_grad():
                logits = model(torch.tensor([[*request.prompt, *row.tokens[:position]]])).logits[0, -1]
            kept = [token for token in range(len(logits)) if token not in BANNED]
            nats += float(torch.distributions.Categorical(logits=logits[kept] / temperature).entropy())
        assert row.entropy == pytest.approx(nats, abs=1e-4)


def test_progress_is_reported(engine):
    told = []
    ask(engine, requests(4, 1), temperature=0.0, report=lambda done, total: told.append((done, total)))
    assert told[-1] == (4, 4)
