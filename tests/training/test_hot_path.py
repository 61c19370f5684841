"""The fused path: gradients of every loss are those of the plain padded computation in float64."""

import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import halobench as hb
from halobench.data.batches import make_step
from halobench.data.rows import Row
from halobench.models import head
from halobench.models.logprobs import ScoredModel
from halobench.sections import Optim
from halobench.training.module import AlignmentModule
from halobench.training.objective import Sums
from tests.models.tiny import VOCABULARY, tiny_llama
from tests.training.fitting import critic

BUILT_IN = ["csft", "dpo", "kto", "offline_ppo", "sft", "slic"]
ALL_ROWS = 10**6


class Coupled(hb.Loss):
    """A loss whose examples depend on each other: the square of the sum of the log ratios."""

    separable = False

    def __call__(self, batch: hb.Pairs) -> hb.LossOutput:
        gain = batch.chosen.log_ratio - batch.rejected.log_ratio
        return hb.LossOutput(losses=(gain.sum() * gain / 100))


def loss_named(name):
    return Coupled() if name == "coupled" else hb.LOSSES[name]()


def gradient(loss, step, dtype=torch.float64, model=None):
    """Gradient of a whole step over all parameters, policy before critic, without an optimizer."""
    module = AlignmentModule(
        loss,
        lambda: ScoredModel(
            model or tiny_llama(dtype=dtype), critic().to(dtype) if loss.value_head else None
        ),
        Optim(lr=1.0),
        num_steps=1,
        starts_at_reference=False,
    )
    alone = SimpleNamespace(reduce=lambda value, reduce_op: value)
    module._trainer = SimpleNamespace(world_size=1, global_step=1, strategy=alone)
    module.configure_model()
    constants, sums = module._constants(step), Sums()
    for part in step.microbatches:
        objective = module._objective(step, part, constants, module._denominator(step), sums)
        module.policy(
            part.rows, objective=objective, mismatched=part.mismatched if part.goes_on else None
        ).backward()
    trained = [parameter for parameter in module.policy.parameters() if parameter.requires_grad]
    found = torch.cat([parameter.grad.double().flatten() for parameter in trained])
    module.zero_grad()
    return found


def random_units(stream, kind, groups):
    """Units over a few prompts; `groups` says how many completions each prompt has, and how long they are."""
    units, mismatched = [], []
    for lengths in groups:
        prompt = tuple(stream.randrange(1, VOCABULARY) for _ in range(stream.randint(1, 9)))
        for length in lengths:
            unit = [random_row(stream, prompt, length, True), random_row(stream, prompt, 3, False)]
            others = [random_row(stream, prompt, stream.randint(1, 6), True, offset=1.0) for _ in unit]
            if kind != "Pairs":
                keep = slice(0, 1) if kind == "Demonstrations" or stream.random() < 0.5 else slice(1, 2)
                unit, others = unit[keep], others[keep]
            units.append(tuple(unit))
            mismatched.append(tuple(others))
    return units, mismatched


def random_row(stream, prompt, length, desirable, offset=0.0):
    tokens = tuple(stream.randrange(1, VOCABULARY) for _ in range(length))
    reference = torch.tensor([stream.gauss(-4 - offset, 1.0) for _ in tokens])
    return Row(prompt, tokens, desirable, reference.numpy())


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", [*BUILT_IN, "coupled"])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    groups=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    chunk=st.sampled_from([1, 9, 10**6]),
)
def test_gradients_are_those_of_the_plain_computation_in_float64(name, groups, seed, chunk):
    loss = loss_named(name)
    units, others = random_units(random.Random(seed), loss.view().__name__, groups)
    mismatched = others if loss.uses_z0 else None

    def step(packed, max_tokens):
        return make_step(units, mismatched, max_tokens=max_tokens, packed=packed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "_CHUNK_LOGITS", {"cpu": chunk * VOCABULARY})
        exact = gradient(loss, step(False, ALL_ROWS))
        assume(exact.norm() > 1e-8)
        naive = relative_error(gradient(loss, step(False, ALL_ROWS), torch.float32), exact)
        # a coupled loss is one of the whole microbatch, so only the others may be divided
        budgets = [ALL_ROWS] if name == "coupled" else [ALL_ROWS, 25]
        for max_tokens in budgets:
            assert relative_error(gradient(loss, step(True, max_tokens)), exact) < 1e-6
            found = gradient(loss, step(True, max_tokens), torch.float32)
            assert relative_error(found, exact) <= max(5e-6, 2 * naive)


@pytest.mark.parametrize("desirable", [True, False])
@pytest.mark.parametrize("name", ["kto", "offline_ppo", "csft"])
def test_batches_of_one_class(name, desirable):
    stream, loss = random.Random(3), hb.LOSSES[name]()
    rows = [random_row(stream, (1 + i % 2, 5), 4, desirable) for i in range(6)]
    others = [random_row(stream, row.prompt, 2, True) for row in rows]
    units, mismatched = [(row,) for row in rows], [(row,) for row in others] if loss.uses_z0 else None
    packed, padded = (
        gradient(loss, make_step(units, mismatched, max_tokens=ALL_ROWS, packed=p)) for p in (True, False)
    )
    assert relative_error(packed, padded) < 1e-6


class LowRank(torch.nn.Module):
    """A frozen linear layer and a trained product of two thin ones beside it."""

    def __init__(self, frozen):
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        stream = torch.Generator().manual_seed(1)
        width, size = frozen.in_features, frozen.out_features
        self.down = torch.nn.Parameter(torch.randn(2, width, generator=stream, dtype=torch.float64))
        self.up = torch.nn.Parameter(torch.randn(size, 2, generator=stream, dtype=torch.float64))

    def forward(self, hidden):
        return self.frozen(hidden) + hidden @ self.down.T @ self.up.T


def untied():
    return tiny_llama(tie_word_embeddings=False)


def with_bias():
    model = untied()
    model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, VOCABULARY, dtype=torch.float64))
    return model


def with_frozen_head():
    model = untied()
    model.lm_head.requires_grad_(False)
    return model


def with_low_rank_head():
    model = untied()
    model.lm_head = LowRank(model.lm_head)
    return model


def grouped():
    return tiny_llama(num_attention_heads=4, num_key_value_heads=2)


@pytest.mark.parametrize("make_model", [untied, with_bias, with_frozen_head, with_low_rank_head, grouped])
@pytest.mark.parametrize("name", ["dpo", "kto", "offline_ppo", "coupled"])
def test_every_kind_of_head_and_grouped_queries(name, make_model, monkeypatch):
    monkeypatch.setattr(head, "_CHUNK_LOGITS", {"cpu": 10 * VOCABULARY})
    loss, model = loss_named(name), make_model()
    units, others = random_units(random.Random(5), loss.view().__name__, [[3, 1], [30], [2, 9, 4]])
    mismatched = others if loss.uses_z0 else None
    packed, padded = (
        gradient(loss, make_step(units, mismatched, max_tokens=ALL_ROWS, packed=p), model=model)
        for p in (True, False)
    )
    assert len(packed) == sum(p.numel() for p in model.parameters() if p.requires_grad) + (
        sum(p.numel() for p in critic().parameters()) if loss.value_head else 0
    )
    assert relative_error(packed, padded) < 1e-6


def test_a_rank_without_rows_has_a_gradient_of_zero():
    row = random_row(random.Random(0), (1, 2), 3, True)
    idle = make_step([(row,)], [(row,)], max_tokens=ALL_ROWS, rank=1, num_ranks=2)
    found = gradient(hb.LOSSES["kto"](), idle)
    assert torch.equal(found, torch.zeros_like(found))
