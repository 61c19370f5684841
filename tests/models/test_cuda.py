"""On a GPU (`pytest -m gpu`): the alignment of the kernel, and packed rows in bfloat16 beside padded ones."""

import itertools
import random

import pytest
import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import LlamaConfig, LlamaForCausalLM

from halobench.data.rows import pack_rows, pad_rows
from halobench.generation import Decoding, Request, generate
from halobench.models.attention import Segments
from halobench.models.logprobs import can_pack, predict
from tests.models.test_attention import kernel_by_hand
from tests.models.tiny import VOCABULARY, random_row

pytestmark = pytest.mark.gpu
NUM_QUERIES, NUM_KEYS = [3, 70, 1, 128], [10, 70, 33, 200]


@pytest.fixture(autouse=True)
def device():
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    return torch.device("cuda")


@pytest.fixture
def model(device):
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval().to(device, torch.bfloat16)


@pytest.fixture
def rows():
    stream = random.Random(3)
    found = []
    for num_prompt, lengths in ((40, (60, 3)), (5, (1,)), (90, (20, 70, 2))):
        prompt = random_row(stream, num_prompt, 1).prompt
        found += [random_row(stream, 1, length)._replace(prompt=prompt) for length in lengths]
    return found


@pytest.mark.parametrize("window", [-1, 16])
def test_the_kernel_is_causal_from_the_last_key_backwards(device, window):
    stream = torch.Generator().manual_seed(0)
    sizes = (sum(NUM_QUERIES), 4), (sum(NUM_KEYS), 2), (sum(NUM_KEYS), 2)
    states = [torch.randn(*size, 64, generator=stream).bfloat16() for size in sizes]
    ends = [
        torch.tensor([0, *itertools.accumulate(counts)], dtype=torch.int32)
        for counts in (NUM_QUERIES, NUM_KEYS)
    ]
    longest = max(NUM_QUERIES), max(NUM_KEYS)
    asked = {"window_size": (window, 0), "enable_gqa": True}
    outer = torch.randn(sum(NUM_QUERIES), 4, 64, generator=stream)
    found, expected = [], []
    for attend, where, dtype, into in (
        (varlen_attn, device, torch.bfloat16, found),
        (kernel_by_hand, "cpu", torch.float32, expected),
    ):
        inputs = [part.to(where, dtype).requires_grad_() for part in states]
        mixed = attend(*inputs, *(end.to(where) for end in ends), *longest, **asked)
        gradients = torch.autograd.grad(mixed, inputs, outer.to(where, dtype))
        into += [part.detach().float().cpu() for part in (mixed, *gradients)]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() < 1e-2 * theirs.norm()


def test_packed_rows_say_what_padded_ones_do(model, rows, monkeypatch):
    taken = []
    kernel = Segments._varlen
    monkeypatch.setattr(Segments, "_varlen", lambda self, *given: taken.append(1) or kernel(self, *given))
    assert can_pack(model)
    assert taken
    found = {}
    for name, lay_out in (("packed", pack_rows), ("padded", pad_rows)):
        model.zero_grad()
        predictions = predict(model, lay_out(rows).to(model.device))
        predictions.logps.sum().backward()
        gradient = torch.cat([p.grad.float().flatten() for p in model.parameters()])
        found[name] = predictions.logps.detach(), gradient
    torch.testing.assert_close(found["packed"][0], found["padded"][0], rtol=0, atol=0.05)
    assert (found["packed"][1] - found["padded"][1]).norm() < 0.03 * found["padded"][1].norm()


def test_greedy_texts_are_those_of_transformers(model):
    model.float()
    stream = random.Random(4)
    asked = [Request(str(n), 0, random_row(stream, stream.randint(2, 30), 1).prompt) for n in range(12)]
    decoding = Decoding(temperature=0.0, seed=0, max_new_tokens=16, eos=1, pad=0)
    texts = generate(model, asked, decoding)
    same = 0
    for request, text in zip(asked, texts, strict=True):
        ids = torch.tensor([request.prompt], device=model.device)
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, eos_token_id=1
        )
        same += text.tokens == theirs[0, ids.shape[1] :].tolist()
    assert same >= 11  # a near tie may fall either way
