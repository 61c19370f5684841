"""Sampling: noise that is a function of seed, prompt, sample and position, and the right distribution."""

import itertools
import math
import random
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from halobench import generation
from halobench.generation import Decoding, Request, generate

EOS, PAD, VOCABULARY = 1, 0, 23


def llama():
    """A random model whose distributions are neither flat nor sharp."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    return randomised(LlamaForCausalLM(config))


def gpt2():
    """Another one, which unlike a Llama sees where in the row a token stands."""
    size = {"n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = GPT2Config(vocab_size=VOCABULARY, pad_token_id=PAD, eos_token_id=EOS, bos_token_id=None, **size)
    return randomised(GPT2LMHeadModel(config))


def randomised(model):
    stream = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.4, generator=stream)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return llama()


def requests(num_prompts=12, num_samples=3):
    stream = random.Random("prompts")
    prompts = [
        tuple(stream.choices(range(2, VOCABULARY), k=stream.randint(1, 9))) for _ in range(num_prompts)
    ]
    return [Request(f"p{i}", s, prompt) for i, prompt in enumerate(prompts) for s in range(num_samples)]


def sample(model, asked, *, temperature=1.0, seed=0, max_new_tokens=16, banned=(), **keys):
    decoding = Decoding(
        temperature=float(temperature),
        seed=seed,
        max_new_tokens=max_new_tokens,
        eos=EOS,
        pad=PAD,
        banned=banned,
    )
    return generate(model, asked, decoding, **keys)


def tokens(samples):
    return [tuple(row.tokens) for row in samples]


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def packed(request, monkeypatch):
    """With and without cohorts, for models that cannot be packed."""
    monkeypatch.setattr(generation, "can_pack", lambda model: request.param)


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("make_model", [llama, gpt2])
@pytest.mark.parametrize(("temperature", "num_texts"), [(0, 1), (0.7, 36), (1, 1), (1, 5), (1, 36)])
def test_texts_do_not_depend_on_the_batch(make_model, monkeypatch, temperature, num_texts):
    model = make_model()
    asked = requests()
    together = sample(model, asked, temperature=temperature)
    monkeypatch.setattr(generation, "_NUM_TEXTS", num_texts)
    order = random.Random(1).sample(range(len(asked)), len(asked))
    apart = sample(model, [asked[index] for index in order], temperature=temperature)
    assert tokens(apart) == [tokens(together)[index] for index in order]
    assert [row.ended for row in apart] == [together[index].ended for index in order]
    for index, row in zip(order, apart, strict=True):
        assert row.entropy == pytest.approx(together[index].entropy, abs=1e-3)


@pytest.mark.parametrize(("num_kept_tokens", "num_texts"), [(1, 1), (60, 3), (250, 13), (10_000, 36)])
def test_texts_do_not_depend_on_how_many_keys_are_kept(model, monkeypatch, num_kept_tokens, num_texts):
    asked = requests()
    together = tokens(sample(model, asked))
    # 2 layers of keys and values of width 16 in float32; 9 tokens of a prompt for 3 texts of 16
    monkeypatch.setattr(generation, "_KEPT_BYTES", {"cpu": num_kept_tokens * 2 * 2 * 16 * 4})
    with forward_shapes(model) as shapes:
        assert tokens(sample(model, asked)) == together
    assert max([rows for rows, width in shapes if width == 1]) == num_texts


def test_texts_do_not_depend_on_the_other_requests(model):
    asked = requests()
    together = tokens(sample(model, asked))
    for request, text in list(zip(asked, together, strict=True))[::5]:
        assert tokens(sample(model, [request])) == [text]
    long = Request("long", 0, tuple(random.Random(2).choices(range(2, VOCABULARY), k=40)))
    assert tokens(sample(model, [*asked[:7], long, *asked[7:]]))[:7] == together[:7]


@contextmanager
def forward_shapes(model):
    """The shapes of the tokens that the model is given meanwhile."""
    generation.can_pack(model)  # finds out by forward passes of its own, the first time
    shapes = []
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    yield shapes
    hook.remove()


def test_equal_prompts_are_read_once_and_answered_as_if_alone(model):
    asked = [Request(name, rep, (5, 6, 7)) for name in "ab" for rep in range(3)]
    asked += [Request("c", 0, (5, 6)), Request("d", 0, (8, 6, 7, 9))]
    apart = [tokens(sample(model, [request]))[0] for request in asked]
    with forward_shapes(model) as shapes:
        together = tokens(sample(model, asked))
    assert together == apart
    assert len(set(together)) > 6
    assert shapes[0] == (1, 4 + 3 + 2)
    assert {width for _, width in shapes[1:]} == {1}


def test_texts_begin_in_the_place_of_finished_ones(model, monkeypatch):
    monkeypatch.setattr(generation, "_NUM_TEXTS", 8)
    asked = [request for request in requests(20) if len(request.prompt) > 1]
    with forward_shapes(model) as shapes:
        samples = sample(model, asked)
    steps = [rows for rows, width in shapes if width == 1]
    assert max(steps) == 8
    assert sum(steps) == sum(len(row.tokens) - 1 for row in samples)  # none is computed in vain
    assert min(steps[:-16]) > 8 * 3 / 4  # from then on two are free, and others begin


@pytest.mark.usefixtures("packed")
def test_texts_end_at_the_end_marker_or_at_their_longest(model):
    samples = sample(model, requests(40), max_new_tokens=10)
    assert {row.ended for row in samples} == {True, False}
    for row in samples:
        assert EOS not in row.tokens[:-1]
        assert row.ended == (row.tokens[-1] == EOS)
        assert len(row.tokens) <= 10 if row.ended else len(row.tokens) == 10
    longer = sample(model, requests(40), max_new_tokens=16)
    assert [row[:10] for row in tokens(longer)] == tokens(samples)
    assert [len(row.tokens) for row in sample(model, requests(), max_new_tokens=1)] == [1] * 36
    assert tokens(sample(model, requests(), max_new_tokens=0)) == [()] * 36


def test_a_text_with_less_room_is_the_beginning_of_what_it_would_be(model, monkeypatch):
    whole = tokens(sample(model, requests()))
    limits = [1 + index % 5 for index in range(len(whole))]
    asked = [replace(request, limit=limit) for request, limit in zip(requests(), limits, strict=True)]
    for cohorts in (True, False):
        monkeypatch.setattr(generation, "can_pack", lambda model, cohorts=cohorts: cohorts)
        cut = sample(model, asked)
        assert tokens(cut) == [text[:limit] for text, limit in zip(whole, limits, strict=True)]
        assert [each.ended for each in cut] == [text[-1] == EOS for text in tokens(cut)]


def test_noise_does_not_depend_on_the_model(model):
    other = llama()
    with torch.no_grad():  # other weights, the very same logits
        other.model.norm.weight.mul_(0.5)
        other.lm_head.weight.mul_(2)
    assert tokens(sample(other, requests())) == tokens(sample(model, requests()))


def test_noise_changes_with_the_seed_the_sample_and_the_name_of_the_prompt(model):
    prompt = (5, 6, 7)
    names = [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("a", 10, 0), ("a1", 0, 0)]
    texts = {
        (name, rep, seed): tokens(sample(model, [Request(name, rep, prompt)], seed=seed))[0]
        for name, rep, seed in names
    }
    assert len(set(texts.values())) == len(names)
    again = sample(model, [Request("a", 0, prompt), Request("a", 1, prompt)])
    assert tokens(again) == [texts["a", 0, 0], texts["a", 1, 0]]


def test_noise_is_drawn_anew_at_every_position():
    flat = llama()
    torch.nn.init.zeros_(flat.lm_head.weight)  # every token is as likely, wherever it stands
    texts = tokens(sample(flat, requests(), banned=[EOS]))
    pairs = [pair for text in texts for pair in itertools.pairwise(text)]
    assert len(pairs) == 36 * 15
    # of 22 tokens one in 22 follows itself
    repeats = sum(a == b for a, b in pairs) / len(pairs)
    assert repeats == pytest.approx(1 / 22, abs=4 * (1 / 22 * 21 / 22 / len(pairs)) ** 0.5)


def test_temperature_0_takes_what_transformers_takes(model):
    asked = requests(num_samples=1)
    for request, row in zip(asked, sample(model, asked, temperature=0), strict=True):
        ids = torch.tensor([request.prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, eos_token_id=EOS
        )
        assert row.tokens == theirs[0, ids.shape[1] :].tolist()
        assert row.entropy == 0


ARCHITECTURES = {
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 1, "sliding_window": 5},
    "qwen2": {"num_key_value_heads": 4},
    "gpt_neox": {},
}


def of_kind(kind):
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    special = {"pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": None}
    config = CONFIG_MAPPING[kind](
        vocab_size=97, max_position_embeddings=64, **size, **special, **ARCHITECTURES[kind]
    )
    return randomised(AutoModelForCausalLM.from_config(config)).double()


def long_requests(seed, num_samples):
    stream = random.Random(seed)
    prompts = [tuple(stream.choices(range(2, 97), k=stream.randint(1, 24))) for _ in range(20)]
    return [Request(f"p{i}", s, prompt) for i, prompt in enumerate(prompts) for s in range(num_samples)]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_greedy_texts_are_those_of_transformers_whatever_the_architecture(kind, monkeypatch):
    model = of_kind(kind)
    before = model.config._attn_implementation
    monkeypatch.setattr(generation, "_NUM_TEXTS", 6)
    asked = long_requests(kind, 1)
    samples = sample(model, asked, temperature=0, max_new_tokens=20)
    assert generation.can_pack(model)
    assert model.config._attn_implementation == before
    assert len(set(tokens(samples))) > 10
    for request, row in zip(asked, samples, strict=True):
        ids = torch.tensor([request.prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, eos_token_id=EOS
        )
        assert row.tokens == theirs[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("num_texts", [7, 80])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_samples_that_share_a_prompt_are_those_of_the_cache_of_transformers(kind, num_texts, monkeypatch):
    model = of_kind(kind)
    monkeypatch.setattr(generation, "_NUM_TEXTS", num_texts)
    asked = [request for request in long_requests(kind, 4) if request.sample < 1 + int(request.prompt_id[1:])]
    assert generation.can_pack(model)
    together = tokens(sample(model, asked, max_new_tokens=20))
    monkeypatch.setattr(generation, "can_pack", lambda model: False)
    assert tokens(sample(model, asked, max_new_tokens=20)) == together
    assert len(set(together)) > 60


@pytest.mark.usefixtures("packed")
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_entropy_is_that_of_the_distributions_the_tokens_were_drawn_from(model, temperature):
    banned = [4, 9]
    request = Request("a", 0, (5, 6, 7))
    [row] = sample(model, [request], temperature=temperature, banned=banned)
    logits = model(torch.tensor([[*request.prompt, *row.tokens]])).logits[0].tolist()
    total = 0.0
    for position in range(len(row.tokens)):
        allowed = [z / temperature for i, z in enumerate(logits[2 + position]) if i not in banned]
        normaliser = math.log(sum(math.exp(z) for z in allowed))
        total -= sum(math.exp(z - normaliser) * (z - normaliser) for z in allowed)
    assert row.entropy == pytest.approx(total, rel=1e-4)
    assert total > 1


@pytest.mark.parametrize("temperature", [0, 1, 3])
def test_banned_tokens_are_never_drawn(model, temperature):
    free = {token for text in tokens(sample(model, requests(), temperature=temperature)) for token in text}
    banned = sorted(free - {EOS})[::2]
    texts = tokens(sample(model, requests(), temperature=temperature, banned=banned))
    assert not {token for text in texts for token in text} & set(banned)


def test_banned_tokens_that_the_model_does_not_know_do_no_harm(model):
    # a reference has no rows for the control tokens that were added to its policy
    assert tokens(sample(model, requests(), banned=[4, VOCABULARY + 1])) == tokens(
        sample(model, requests(), banned=[4])
    )


def test_progress_is_reported_and_no_requests_are_no_work(model, monkeypatch):
    monkeypatch.setattr(generation, "_NUM_TEXTS", 5)
    seen = []
    samples = sample(model, requests(4), report=lambda done, total: seen.append((done, total)))
    assert seen == sorted(set(seen))
    assert seen[-1] == (12, 12)
    assert {total for _, total in seen} == {12}
    assert len(seen) > 12 / 5
    assert len(samples) == 12
    assert sample(model, []) == []


def keys(num_keys):
    return torch.tensor([generation.noise_key(0, Request(f"p{i}", i % 4, ())) for i in range(num_keys)])


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("position", [0, 7])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature, position):
    logits = [1.5, 0.0, -1.0, 0.7, -math.inf]
    weights = [math.exp(z / temperature) for z in logits]
    drawn, _ = generation._draw(torch.tensor([logits]).expand(20_000, 5), keys(20_000), position, temperature)
    for token, weight in enumerate(weights):
        chance = weight / sum(weights)
        share = (drawn == token).double().mean().item()
        assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 20_000) ** 0.5)


def test_noise_is_standard_gumbel():
    noise = generation.gumbel(keys(2000), 3, 100).double()
    # mean: Euler's constant; variance pi^2 / 6; fourth moment 5.4 variances squared; 200,000 draws
    assert noise.mean().item() == pytest.approx(0.5772157, abs=4 * (math.pi**2 / 6 / 2e5) ** 0.5)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=4 * math.pi**2 / 6 * (4.4 / 2e5) ** 0.5)
    # P(g <= 0) = exp(-1)
    share = (noise <= 0).double().mean().item()
    assert share == pytest.approx(math.exp(-1), abs=4 * (0.2325 / 2e5) ** 0.5)


def test_noise_of_tokens_positions_and_keys_is_unrelated():
    first, second = (generation.gumbel(keys(2001), position, 51).double() for position in (0, 1))
    pairs = {
        "positions": (first, second),
        "tokens": (first[:, 1:], first[:, :-1]),
        "keys": (first[1:], first[:-1]),
    }
    for a, b in pairs.values():
        correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
        assert abs(correlation) < 4 / 100_000**0.5


def test_noise_is_the_same_as_ever():
    # printed by the first version of this function, whose noise is in published results
    expected = [
        [-1.73087454, 1.08816743, -0.05905656, -1.06788623],
        [1.85832882, -0.29333058, -0.63761717, -0.61522841],
        [1.29212201, 1.46172071, 1.76395941, 2.11656523],
    ]
    noise = generation.gumbel(torch.tensor([0, 1, 2**62 + 12_345]), 5, 4)
    assert noise.tolist() == [pytest.approx(row, rel=1e-6) for row in expected]
    each = generation.gumbel(torch.tensor([0, 1, 7]), torch.tensor([5, 5, 2]), 4)
    assert each[:2].equal(noise[:2])
    assert each[2:].equal(generation.gumbel(torch.tensor([7]), 2, 4))


def test_noise_is_finite_whatever_the_hash(monkeypatch):
    # found by search: the 24 bits that become u are all ones here, and u must still be below 1
    assert generation.gumbel(torch.tensor([82_122]), 1, 181).isfinite().all()
    for bits in (0, -1):
        monkeypatch.setattr(generation, "_mix", lambda state, bits=bits: torch.full_like(state, bits))
        assert generation.gumbel(torch.tensor([1]), 0, 3).isfinite().all()
