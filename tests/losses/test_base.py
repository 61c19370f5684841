"""What a loss is given, how its parameters are checked, how its view is found."""

import math

import jaxtyping
import pytest
import torch
from pydantic import ValidationError

import halobench as hb


def logps(policy, reference=None, lengths=(2, 1)):
    mask = torch.arange(len(policy[0])) < torch.tensor(lengths)[:, None]
    reference = None if reference is None else torch.tensor(reference)
    return hb.Logps(policy=torch.tensor(policy), reference=reference, mask=mask)


def test_sequence_and_log_ratio_sum_the_scored_tokens_only():
    found = logps([[-1.0, -2.0, 50.0], [-4.0, 50.0, 50.0]], [[-1.5, -1.0, -9.0], [-3.0, -9.0, -9.0]])
    assert found.sequence.tolist() == [-3, -4]
    assert found.log_ratio.tolist() == [0.5 - 1, -1]
    assert found.token_log_ratio.tolist() == [[0.5, -1, 0], [-1, 0, 0]]
    assert found.num_tokens.tolist() == [2, 1]


def test_sums_are_taken_in_float64():
    # 1000 tokens of float32 -1.1: plain float32 addition is off by more than 1e-5
    token = torch.full((1, 1000), -1.1)
    found = hb.Logps(policy=token, reference=token * 2, mask=torch.ones(1, 1000, dtype=torch.bool))
    exact = math.fsum([token[0, 0].item()] * 1000)
    assert found.sequence.dtype == found.log_ratio.dtype == torch.float64
    assert found.sequence.item() == pytest.approx(exact, abs=1e-9)
    assert found.log_ratio.item() == pytest.approx(-exact, abs=1e-9)


def test_sums_over_whole_completions_can_be_given_with_their_numbers_of_tokens():
    found = hb.Logps.from_sequence(
        policy=torch.tensor([-10.0, -20.0]),
        reference=torch.tensor([-11.0, -18.0]),
        num_tokens=torch.tensor([5, 9]),
    )
    assert found.sequence.tolist() == [-10, -20]
    assert found.log_ratio.tolist() == [1, -2]
    assert found.num_tokens.tolist() == [5, 9]


def test_log_ratio_without_a_reference_says_what_to_do():
    with pytest.raises(hb.RecipeError, match=r"log_ratio .* needs_reference"):
        _ = logps([[-1.0, -2.0], [-1.0, 0.0]]).log_ratio


def test_a_wrong_shape_is_refused_while_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        hb.Logps(policy=torch.zeros(2, 3), reference=None, mask=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(jaxtyping.TypeCheckError):
        hb.LossOutput(losses=torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("name", "parameters", "problems"),
    [
        ("dpo", {"beta": 0}, ["DPO.beta = 0: must be greater than 0"]),
        ("dpo", {"beta": float("nan")}, ["DPO.beta = nan: must be a finite number"]),
        (
            "kto",
            {"lambda_ratio": "kto_paper"},
            ["KTO.lambda_ratio = 'kto_paper': must be a number, or one of 'kto_paper_v1' or 'kto_paper_v4'"],
        ),
        ("kto", {"beta": "high"}, ["KTO.beta = 'high': must be a number"]),
        ("kto", {"lamda_d": 2}, ["KTO.lamda_d = 2: unknown key (did you mean 'lambda_d'?)"]),
        (
            "kto",
            {"beta": -1, "lambda_u": -0.5, "quux": 1},
            [
                "KTO.beta = -1: must be greater than 0",
                "KTO.lambda_u = -0.5: must be at least 0",
                "KTO.quux = 1: unknown key; known here: beta, lambda_d, lambda_ratio, lambda_u",
            ],
        ),
        ("offline_ppo", {"gamma": 1.5}, ["OfflinePPO.gamma = 1.5: must be at most 1"]),
        (
            "offline_ppo",
            {"own_reward": "perhaps"},
            ["OfflinePPO.own_reward = 'perhaps': must be true or false"],
        ),
        (
            "offline_ppo",
            {"preset": "v2"},
            ["OfflinePPO.preset = 'v2': must be one of 'default', 'v1', 'legacy' or 'main'"],
        ),
    ],
)
def test_each_wrong_parameter_is_one_line_with_its_remedy(name, parameters, problems):
    with pytest.raises(hb.RecipeError) as caught:
        hb.LOSSES[name](**parameters)
    assert list(caught.value.problems) == problems


def test_a_preset_that_is_no_name_is_a_problem_like_any_other():
    with pytest.raises(hb.RecipeError, match="preset"):
        hb.LOSSES["offline_ppo"](preset=["v1"])


def test_a_parameter_without_a_default_must_be_given():
    class Needy(hb.Loss):
        margin: hb.Positive

        def __call__(self, batch: hb.Pairs) -> hb.LossOutput:
            raise NotImplementedError

    with pytest.raises(hb.RecipeError, match=r"^Needy\.margin: is missing; give it a value$"):
        Needy()
    assert Needy(margin=2).margin == 2.0


def test_a_loss_never_changes_and_takes_keywords_only():
    loss = hb.LOSSES["kto"](beta=0.5)
    with pytest.raises(ValidationError, match="frozen"):
        loss.beta = 1.0
    with pytest.raises(TypeError):
        hb.LOSSES["kto"](0.5)
    assert loss == hb.LOSSES["kto"](beta=0.5, lambda_d=1.0, lambda_u=1.0)


@pytest.mark.parametrize(
    ("name", "view", "uses_z0"),
    [
        ("dpo", hb.Pairs, False),
        ("slic", hb.Pairs, False),
        ("kto", hb.Binary, True),
        ("offline_ppo", hb.Binary, False),
        ("csft", hb.Conditional, False),
        ("sft", hb.Demonstrations, False),
    ],
)
def test_the_annotation_of_call_chooses_the_view(name, view, uses_z0):
    assert hb.LOSSES[name].view() is view
    assert hb.LOSSES[name]().uses_z0 is uses_z0


def unannotated(self, batch) -> hb.LossOutput: ...
def of_a_tensor(self, batch: torch.Tensor) -> hb.LossOutput: ...
def of_two_views(self, batch: hb.Pairs | hb.Binary) -> hb.LossOutput: ...
def under_another_name(self, pairs: hb.Pairs) -> hb.LossOutput: ...


@pytest.mark.parametrize("call", [unannotated, of_a_tensor, of_two_views, under_another_name])
def test_registration_refuses_a_loss_whose_view_is_not_clear(call):
    class Vague(hb.Loss):
        __call__ = call

    with pytest.raises(hb.RecipeError, match=r"Vague\.__call__: .*`batch: Pairs`, `Binary`"):
        hb.register_loss("vague", source="this test")(Vague)
    assert "vague" not in hb.LOSSES
