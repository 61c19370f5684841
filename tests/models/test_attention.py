"""Packed rows: every family of models that uses the attention interface says the same as alone."""

import inspect
import random
import warnings

import pytest
import torch
from torch.nn.attention import varlen
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from halobench.data.rows import Row, pack_rows, pad_rows
from halobench.models import attention
from halobench.models.logprobs import ScoredModel, can_pack, predict
from tests.models.tiny import VOCABULARY, logps_by_hand, random_row, tiny_llama

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GROUPED = SHAPE | {"num_key_value_heads": 2, "head_dim": 4}
FAMILIES = {
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 5},
    "qwen2": GROUPED,
    "qwen2-windows": GROUPED | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": GROUPED,
    "gpt_neox": SHAPE,
    "gemma": GROUPED,
    "cohere": GROUPED | {"logit_scale": 0.25},
    "granite": GROUPED | {"logits_scaling": 3.0},
    "gemma2": GROUPED | {"attn_logit_softcapping": None, "final_logit_softcapping": 2.0, "sliding_window": 4},
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128},
}


def model_of(family):
    config = CONFIG_MAPPING[family.partition("-")[0]](**FAMILIES[family], pad_token_id=0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def rows():
    """Prompts shared by one to four completions, of one token and of many."""
    stream = random.Random(1)
    sets = [[(3, 5)], [(9, 1), (9, 12)], [(20, 8), (20, 2), (20, 1), (20, 30)]]
    found = []
    for lengths in sets:
        prompt = random_row(stream, lengths[0][0], 1).prompt
        found += [random_row(stream, 1, size)._replace(prompt=prompt) for _, size in lengths]
    stream.shuffle(found)
    return found


def kernel_by_hand(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
):
    """What varlen_attn computes, aligned at the last key as flash attention is; see its documentation."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q == int(cu_seq_q.diff().max())
    assert max_k == int(cu_seq_k.diff().max())
    assert window_size[1] == 0
    assert enable_gqa == (query.shape[1] != key.shape[1])
    repeats = query.shape[1] // key.shape[1]
    mixed = []
    for index in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[index] : cu_seq_q[index + 1]]
        k, v = (
            states[cu_seq_k[index] : cu_seq_k[index + 1]].repeat_interleave(repeats, 1)
            for states in (key, value)
        )
        place = torch.arange(len(q))[:, None] + len(k) - len(q)
        ahead = torch.arange(len(k)) - place
        hidden = ahead > 0
        if window_size[0] >= 0:
            hidden |= ahead < -window_size[0]
        scores = torch.einsum("qhd,khd->hqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        mixed.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v))
    return torch.cat(mixed)


@pytest.fixture(params=["a call per segment", "padded calls", "one kernel"])
def way(request, monkeypatch):
    """The two ways of the CPU, and that of a GPU with a stand-in for its kernel."""
    monkeypatch.setattr(attention, "_SHORT", 10**6 if request.param == "padded calls" else 0)
    if request.param == "one kernel":
        known = set(inspect.signature(varlen.varlen_attn).parameters)
        assert set(inspect.signature(kernel_by_hand).parameters) <= known
        monkeypatch.setattr(attention, "_has_kernel", lambda query: True)
        monkeypatch.setattr(varlen, "varlen_attn", kernel_by_hand)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_of_packed_rows_are_those_of_each_row_alone(family, rows):
    model = model_of(family)
    assert can_pack(model)
    with torch.no_grad():
        found = predict(model, pack_rows(rows)).logps
        expected = torch.cat([logps_by_hand(model, row) for row in rows])
    # Gemma 2 computes the softmax of its own attention in float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if family == "gemma2" else 1e-10)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_completions_that_go_on_read_the_prompts_of_the_pass_before(family, rows):
    model, others = model_of(family), []
    stream = random.Random(2)
    for row in rows:
        others.append(random_row(stream, 1, stream.randint(1, 9))._replace(prompt=row.prompt))

    class Listens:
        separable, rows_per_example = True, 1

        def start(self, own, mismatched):
            self.heard = mismatched

        def __call__(self, scored, rows):
            return scored.logps.sum()

    objective = Listens()
    ScoredModel(model)(pack_rows(rows), objective=objective, mismatched=pack_rows(others, after=rows))
    found = objective.heard.logps[objective.heard.mask]
    expected = torch.cat([logps_by_hand(model, row) for row in others])
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-10)
    assert not found.requires_grad


def test_gradients_of_packed_rows_are_those_of_padded_ones_in_every_family(rows):
    for family in FAMILIES:
        model = model_of(family)
        found = []
        for lay_out in (pack_rows, pad_rows):
            model.zero_grad()
            predict(model, lay_out(rows)).logps.square().sum().backward()
            found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        assert (found[0] - found[1]).norm() < 1e-6 * found[1].norm(), family


@pytest.mark.parametrize("family", ["bloom", "gemma2"])
def test_a_model_that_cannot_be_packed_is_said_to_be_run_padded(family):
    shape = {"bloom": {"vocab_size": VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 2}}
    config = CONFIG_MAPPING[family](**shape.get(family, GROUPED), pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.warns(UserWarning, match="is run padded, which is slower"):
        assert not can_pack(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not can_pack(model)  # said once


def test_the_attention_of_a_model_is_given_back(rows):
    model = tiny_llama()
    before = model.config._attn_implementation
    predict(model, pack_rows(rows))
    assert model.config._attn_implementation == before
    prompt = torch.tensor([[1, 2, 3]])
    assert model(input_ids=prompt).logits.shape == (1, 3, VOCABULARY)


def test_a_row_of_its_own_needs_no_mask():
    segments = attention.Segments(pack_rows([Row((1, 2), (3,), True), Row((4,), (5, 6), True)]).segments)
    states = torch.randn(1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    segments.attend(0, states, states, states, scale=None, window=None)
    [(parts, _)] = segments._plans.values()
    assert all(part.mask is None for part in parts)
