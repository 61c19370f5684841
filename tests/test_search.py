"""Random search: as many settings of each loss, from the stated priors, the same ones every time."""

import math

import pytest
import yaml

from halobench import RecipeError
from halobench.compose import compose
from halobench.search import search_points
from tests.test_compose import BASE

PRIORS = {"dpo": {"optim.lr": [1e-4, 1e-2], "loss.beta": [0.1, 10]}, "sft": {"optim.lr": [1e-4, 1e-2]}}


def search(**changes):
    return search_points({"trials": 3, "priors": PRIORS, **changes}, "x.yaml")


def problems_of(**changes):
    with pytest.raises(RecipeError) as caught:
        search(**changes)
    return list(caught.value.problems)


def test_every_loss_gets_its_default_and_as_many_drawn_settings():
    labels = [point["label"] for point in search()]
    assert labels == [f"{loss} {name}" for loss in ("dpo", "sft") for name in ("default", "01", "02", "03")]


def test_the_default_states_nothing_but_the_loss():
    assert search()[0] == {"loss": "dpo", "label": "dpo default"}


def test_only_what_has_a_prior_is_drawn():
    drawn = [point for point in search() if not point["label"].endswith("default")]
    assert [sorted(point["loss"]) for point in drawn] == [["beta", "name"]] * 3 + [["name"]] * 3
    assert all(sorted(point) == ["label", "loss", "optim.lr"] for point in drawn)


def test_draws_are_log_uniform_between_the_ends_of_the_prior():
    rates = [point["optim.lr"] for point in search(trials=2000) if "optim.lr" in point]
    assert min(rates) >= 1e-4
    assert max(rates) <= 1e-2
    # the logarithm is uniform: its quartiles are a quarter, a half and three quarters of the way
    ordered = sorted(math.log10(rate) for rate in rates)
    quartiles = [ordered[len(ordered) * part // 4] for part in (1, 2, 3)]
    assert quartiles == pytest.approx([-3.5, -3.0, -2.5], abs=0.05)


def test_draws_have_three_digits_so_that_a_recipe_can_state_them():
    assert all(float(f"{p['optim.lr']:.3g}") == p["optim.lr"] for p in search(trials=50) if "optim.lr" in p)


def test_more_trials_begin_with_the_same_ones():
    few = {point["label"]: point for point in search()}
    many = {point["label"]: point for point in search(trials=9)}
    assert {label: many[label] for label in few} == few


def test_another_loss_moves_no_draw_and_another_seed_moves_all():
    alone = search(priors={"dpo": PRIORS["dpo"]})
    assert alone == search()[:4]
    other = search(priors={"dpo": PRIORS["dpo"]}, seed=1)
    assert all(a["optim.lr"] != b["optim.lr"] for a, b in zip(alone[1:], other[1:], strict=True))


def test_a_recipe_with_a_search_is_a_run_per_setting_and_seed(tmp_path):
    file = tmp_path / "tuning.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                **{key: value for key, value in BASE.items() if key != "loss"},
                "split": "dev",
                "search": {"trials": 2, "priors": PRIORS},
                "matrix": {"seed": [100, 101]},
            }
        )
    )
    suite = compose(file)
    assert len(suite.recipes) == len({recipe.run_id for recipe in suite.recipes}) == 2 * 3 * 2
    [default] = [r for r in suite.recipes if r.label == "dpo default" and r.seed == 101]
    assert (default.loss["beta"], default.optim.lr) == (0.1, 0.001)  # of the class, and of the recipe
    assert suite.recipes[0].board.family == ("dpo", "sft")


def test_trials_and_seed_of_a_search_can_be_stated(tmp_path):
    file = tmp_path / "tuning.yaml"
    document = {
        **{key: value for key, value in BASE.items() if key != "loss"},
        "split": "dev",
        "search": {"trials": 2, "priors": {"sft": PRIORS["sft"]}},
    }
    file.write_text(yaml.safe_dump(document))
    more = compose(file, ["search.trials=4"]).recipes
    assert [run.label for run in more] == ["sft default", "sft 01", "sft 02", "sft 03", "sft 04"]
    assert [run.run_id for run in more[:3]] == [run.run_id for run in compose(file).recipes]
    others = compose(file, ["search.seed=1"]).recipes
    assert others[0].run_id == more[0].run_id  # the default
    assert others[1].optim.lr != more[1].optim.lr
    with pytest.raises(RecipeError, match=r"search.trials = 0 "):
        compose(file, ["search.trials=0"])


def test_what_is_wrong_with_a_search_is_told_at_once():
    priors = {
        "dpo": {"loss.bet": [0.1, 1], "optim.lr": [1e-2, 1e-4]},
        "dop": {"optim.lr": [1, 2]},
        "kto": {},
    }
    problems = problems_of(priors=priors)
    assert len(problems) == 4
    assert problems[0] == (
        "search.priors.dpo.loss.bet in x.yaml: dpo has no such key (did you mean 'loss.beta'?)"
    )
    assert problems[1] == "search.priors.dpo.optim.lr in x.yaml: [0.01, 0.0001] must go up; swap them"
    assert "did you mean 'dpo'" in problems[2]
    assert "search.priors.kto in x.yaml: has nothing to draw" in problems[3]


def test_a_search_without_losses_or_with_one_trial_is_refused():
    assert "names no loss" in problems_of(priors={})[0]
    assert "search.trials = 1 in x.yaml" in problems_of(trials=1)[0]
    assert "did you mean 'trials'" in problems_of(trial=3)[0]
