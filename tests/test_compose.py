"""From a recipe file to its runs: extends, matrix, controls, defaults of losses, overrides, and errors."""

from collections import Counter

import pytest
import yaml

from halobench import LOSSES, RecipeError
from halobench.compose import Point, compose
from halobench.recipe_file import builtin_recipes
from tests.leaderboard.synthetic import ARCHITECTURE

BASE = {
    "data": {"source": "cafe", "num_pairs": 24, "max_length": 64, "max_prompt_length": 28},
    "model": {"architecture": ARCHITECTURE},
    "loss": "kto",
    "optim": {"lr": 0.001},
    "scoring": {"scorers": ["oracle"]},
}


@pytest.fixture
def write(tmp_path):
    """Write a YAML file: the smallest recipe with changes, or text; None drops a key."""

    def to(name, document, *, onto=BASE):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(document, dict):
            merged = {key: value for key, value in {**onto, **document}.items() if value is not None}
            document = yaml.safe_dump(merged, sort_keys=False)
        file.write_text(document)
        return file

    return to


@pytest.fixture
def runs(write):
    """The runs of the smallest recipe with changes."""

    def of(document, *overrides):
        return compose(write("recipe.yaml", document), overrides).recipes

    return of


def problems_of(recipe, overrides=(), plugins=()):
    with pytest.raises(RecipeError) as caught:
        compose(recipe, overrides, plugins)
    return caught.value.problems


def test_one_file_is_one_run(runs):
    [run] = runs({})
    assert (run.suite, run.label, run.loss["name"], run.seed) == ("recipe", "kto", "kto", 0)


def test_extends_merges_sections_and_the_later_wins(write, runs):
    write("parents/far.yaml", {"optim": {"lr": 1, "clip": 2, "weight_decay": 3}})
    write("parents/near.yaml", {"extends": "far.yaml", "optim": {"clip": 5}}, onto={})
    write("second.yaml", {"optim": {"clip": 7, "final_fraction": 0.5}}, onto={})
    child = {"extends": ["parents/near.yaml", "second.yaml"], "optim": {"final_fraction": 0.25}}
    [run] = compose(write("child.yaml", child, onto={})).recipes
    optim = run.optim
    assert (optim.lr, optim.clip, optim.weight_decay, optim.final_fraction) == (1, 7, 3, 0.25)
    assert run.suite == "child"


def test_a_matrix_is_replaced_and_not_merged(write):
    write("parent.yaml", {"matrix": {"seed": [0, 1], "optim.clip": [1, 2]}})
    child = write("child.yaml", {"extends": "parent.yaml", "matrix": {"seed": [5]}}, onto={})
    assert [run.seed for run in compose(child).recipes] == [5]


def test_a_matrix_is_every_combination_in_order(runs):
    found = runs({"matrix": {"loss": ["dpo", "kto"], "seed": [1, 2], "optim.clip": [3, 4]}})
    assert [(run.name, run.seed, run.optim.clip) for run in found] == [
        *(("dpo", 1, 3), ("dpo", 1, 4), ("dpo", 2, 3), ("dpo", 2, 4)),
        *(("kto", 1, 3), ("kto", 1, 4), ("kto", 2, 3), ("kto", 2, 4)),
    ]


def test_points_vary_several_keys_together(runs):
    points = [{"loss": {"name": "dpo", "beta": 0.5}, "optim.lr": 0.1}, {"loss": "sft", "optim.lr": 0.2}]
    found = runs({"matrix": {"points": points, "seed": [0, 1]}})
    assert [(run.name, run.optim.lr, run.seed) for run in found] == [
        *(("dpo", 0.1, 0), ("dpo", 0.1, 1), ("sft", 0.2, 0), ("sft", 0.2, 1))
    ]
    assert found[0].loss["beta"] == 0.5


def test_parameters_of_one_loss_never_leak_into_another(write, runs):
    [run] = runs({"loss": {"name": "kto", "beta": 0.7}}, "loss.name=dpo")
    assert run.loss == {"name": "dpo", "beta": 0.1}
    write("parent.yaml", {"loss": {"name": "kto", "beta": 0.7, "lambda_u": 3}})
    [run] = compose(write("child.yaml", {"extends": "parent.yaml", "loss": "kto"}, onto={})).recipes
    assert run.loss == {"name": "kto", "beta": 0.1, "lambda_d": 1.0, "lambda_u": 1.0}
    point = Point()
    point.merge({"loss": {"name": "kto", "beta": 0.7}}, "below")
    point.merge({"loss": "dpo"}, "above")
    assert point.values == {"loss": {"name": "dpo"}}


# Each layer states what it and all stronger ones set; beta of the class is 0.1 (the paper's).
@pytest.mark.parametrize(
    ("strongest", "beta", "lr"),
    [
        ("class", 0.1, 0.001),
        ("defaults", 0.2, 0.02),
        ("extends", 0.3, 0.03),
        ("recipe", 0.4, 0.04),
        ("matrix", 0.5, 0.05),
        ("command line", 0.6, 0.06),
    ],
)
def test_precedence_of_the_defaults_of_a_loss(write, strongest, beta, lr):
    layers = ["class", "defaults", "extends", "recipe", "matrix", "command line"]
    stated = layers[: layers.index(strongest) + 1]

    def layer(name, value):
        return {"loss": {"name": "kto", "beta": value}, "optim": {"lr": value / 10}} if name in stated else {}

    defaults = (
        {"loss": {"beta": 0.2}, "optim": {"lr": 0.02}} if "defaults" in stated else {"optim": {"lr": 0.001}}
    )
    write("defaults/kto.yaml", defaults, onto={})
    write("parent.yaml", {"loss": "kto", "optim": None, **layer("extends", 0.3)})
    varied = {"loss": [{"name": "kto", "beta": 0.5}], "optim.lr": [0.05]} if "matrix" in stated else {}
    child = {"extends": "parent.yaml", "loss_defaults": "defaults", "matrix": varied, **layer("recipe", 0.4)}
    overrides = ["loss.beta=0.6", "optim.lr=0.06"] if "command line" in stated else []
    [run] = compose(write("child.yaml", child, onto={}), overrides).recipes
    assert (run.loss["beta"], run.optim.lr) == (beta, lr)


def test_the_file_of_a_loss_is_found_beside_the_recipe_that_names_the_folder(write):
    write("shared/tuned/kto.yaml", {"tuning": {"trials": 6, "seeds": 3}}, onto={})
    write("shared/parent.yaml", {"loss_defaults": "tuned"})
    [run] = compose(write("child.yaml", {"extends": "shared/parent.yaml"}, onto={})).recipes
    assert (run.tuning.trials, run.tuning.seeds) == (6, 3)


def test_a_loss_without_a_file_runs_with_the_default_file_and_a_note(write):
    write("tuned/kto.yaml", {"optim": {"clip": 3}}, onto={})
    write("tuned/default.yaml", {"optim": {"clip": 4}}, onto={})
    file = write(
        "recipe.yaml", {"loss_defaults": "tuned", "matrix": {"loss": ["kto", "dpo"], "seed": [0, 1]}}
    )
    suite = compose(file)
    assert {run.name: run.optim.clip for run in suite.recipes} == {"kto": 3, "dpo": 4}
    [note] = suite.notes
    assert note.startswith("dpo: no file in ")
    assert note.endswith("it runs with its own defaults and those of default.yaml")


@pytest.mark.parametrize("key", ["budget", "seed", "data"])
def test_the_file_of_a_loss_may_not_change_the_budget_or_the_data(write, key):
    write("tuned/kto.yaml", {key: {"epochs": 2}}, onto={})
    [problem] = problems_of(write("recipe.yaml", {"loss_defaults": "tuned"}))
    assert f"{key} in " in problem
    assert "may set only loss, optim, tuning" in problem


def test_a_stated_value_replaces_the_axis_and_a_list_of_seeds_makes_one(runs):
    varied = {"matrix": {"seed": [0, 1, 2], "optim.clip": [1, 2]}}
    assert [(run.seed, run.optim.clip) for run in runs(varied, "seed=7")] == [(7, 1), (7, 2)]
    both = runs(varied, "seed=[5,6]", "optim.clip=9")
    assert [(run.seed, run.optim.clip) for run in both] == [(5, 9), (6, 9)]
    assert [run.seed for run in runs({}, "seed=[3,4]")] == [3, 4]


@pytest.mark.parametrize("override", ["loss.name=dpo", "loss=dpo", "loss={name: dpo}", "loss=[dpo]"])
def test_another_loss_replaces_the_axis_of_losses(runs, override):
    found = runs({"matrix": {"loss": ["kto", "sft"], "seed": [0, 1]}}, override)
    assert [(run.name, run.seed) for run in found] == [("dpo", 0), ("dpo", 1)]


def test_another_loss_wins_over_points(runs):
    points = [{"loss": "kto", "optim.lr": 0.1}, {"loss": "sft", "optim.lr": 0.2}]
    assert {run.name for run in runs({"matrix": {"points": points}}, "loss.name=dpo")} == {"dpo"}


def test_a_stated_parameter_reaches_the_losses_that_have_it(runs):
    found = runs({"matrix": {"loss": ["kto", "sft", "dpo"]}}, "loss.beta=0.9")
    assert [run.loss.get("beta") for run in found] == [0.9, None, 0.9]


def test_a_stated_parameter_that_no_compared_loss_has_is_an_error(write):
    # the control has a beta, but overrides of the loss are not for controls
    controls = {"controls": {"random_label": {"loss": "kto", "data.labels": "shuffled"}}}
    for document in ({"loss": "sft"}, {"loss": "sft", **controls}):
        problems = problems_of(write("recipe.yaml", document), ["loss.beta=0.9"])
        assert len(problems) == 1
        assert problems[0].startswith("loss.beta = 0.9 in the command line: none of ")
        assert "has it" in problems[0]


def test_a_parameter_that_no_loss_has_is_told_together_with_other_errors(write):
    problems = problems_of(write("recipe.yaml", {}), ["data.num_pair=3", "loss.bata=2"])
    assert len(problems) == 2
    assert any("data.num_pair = 3" in line and "num_pairs" in line for line in problems)
    assert any("loss.bata = 2" in line and "did you mean 'beta'" in line for line in problems)


def test_controls_take_the_axes_but_not_the_losses(runs):
    document = {
        "matrix": {"loss": ["kto", "dpo"], "seed": [0, 1]},
        "controls": {"again": {"loss": "sft", "seed": "+50"}, "reference": {"evaluate": "reference"}},
    }
    controls = [run for run in runs(document) if run.control]
    assert [(run.label, run.seed) for run in controls] == [
        *(("again", 50), ("again", 51), ("reference", 0), ("reference", 1))
    ]
    assert len(runs(document)) == 8
    shifted = [run.seed for run in runs(document, "seed=[7]") if run.label == "again"]
    assert shifted == [57]


def test_controls_do_not_feel_overrides_of_the_loss(runs):
    document = {
        "matrix": {"loss": ["kto", "dpo"]},
        "controls": {"odd": {"loss": {"name": "kto", "beta": 0.3}}},
    }
    found = runs(document, "loss.beta=0.9", "loss.name=dpo")
    assert [(run.label, run.loss["name"], run.loss["beta"]) for run in found] == [
        *(("dpo", "dpo", 0.9), ("odd", "kto", 0.3))
    ]


@pytest.mark.parametrize("override", [[], ["loss.name=slic"]])
def test_the_family_of_the_board_is_the_matrix_of_the_file(runs, override):
    found = runs({"matrix": {"loss": ["kto", {"name": "dpo", "beta": 1}, "kto"]}}, *override)
    assert found[0].board.family == ("kto", "dpo")


def test_the_family_of_points_is_their_losses(runs):
    points = [{"loss": "sft", "optim.lr": 0.1}, {"loss": {"name": "dpo", "beta": 1}}, {"loss": "sft"}]
    assert runs({"matrix": {"points": points}})[0].board.family == ("sft", "dpo")


def test_a_declared_family_stands(runs):
    document = {"matrix": {"loss": ["kto", "dpo"]}, "board": {"family": ["kto"], "margin": 0.1}}
    assert runs(document)[0].board.family == ("kto",)
    assert runs(document)[0].board.margin == 0.1


def test_numbers_that_yaml_reads_as_texts_are_numbers(runs):
    assert yaml.safe_load("5e-6") == "5e-6"  # YAML 1.1 wants a point before the exponent
    assert runs({"optim": {"lr": "5e-6"}})[0].optim.lr == 5e-6
    assert runs({}, "optim.lr=2e-4")[0].optim.lr == 2e-4


def test_all_problems_are_told_at_once_and_each_once(write):
    document = {
        "optim": {"lr": -1, "clipp": 3},
        "precision": "16",
        "matrix": {"loss": ["kto", "dop"], "seed": [0, 1, 2]},
        "trainer": {"max_epochs": 3},
    }
    file = write("recipe.yaml", document)
    assert sorted(problems_of(file, ["loss.beta=-1"])) == [
        "loss.beta = -1 in the command line: must be greater than 0",
        f"loss.name in {file}: unknown loss 'dop' (did you mean 'dpo'?); registered: {', '.join(LOSSES)}",
        f"optim.clipp = 3 in {file}: unknown key (did you mean 'clip'?)",
        f"optim.lr = -1 in {file}: must be greater than 0",
        f"precision = '16' in {file}: must be one of '32-true', '64-true', 'bf16-mixed' or 'bf16-true'",
        f"trainer.max_epochs in {file}: is set by halobench; use budget.epochs",
    ]


def test_a_problem_names_the_file_its_value_comes_from(write):
    parent = write("parent.yaml", {"optim": {"lr": -1}})
    child = write("child.yaml", {"extends": "parent.yaml", "precision": "16"}, onto={})
    assert {problem.partition(": ")[0] for problem in problems_of(child)} == {
        f"optim.lr = -1 in {parent}",
        f"precision = '16' in {child}",
    }


def test_a_problem_of_a_missing_key_says_which(write):
    file = write("recipe.yaml", {"optim": {"clip": 1}})
    assert problems_of(file) == (f"optim.lr in {file}: is missing; give it a value",)


def test_unreadable_files_are_told_with_the_overrides_that_are_wrong(write):
    file = write("recipe.yaml", "loss: [kto\n")
    problems = problems_of(file, ["seed", "optim.lr=[1"], ["gone.py"])
    assert len(problems) == 3 + 1
    assert problems[0].startswith(f"{file}:2: is not YAML: ")
    assert problems[1] == "'seed' on the command line: overrides are written key.path=value"
    assert problems[2] == "optim.lr = '[1' on the command line: is not a YAML value"
    assert problems[3].startswith("plug-in gone.py: no such file")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- kto\n- dpo\n", "must be a mapping of keys to values, found list"),
        ("", "must be a mapping of keys to values, found NoneType"),
        ("extends: gone.yaml", "extends = 'gone.yaml' in "),
    ],
)
def test_a_file_that_is_no_recipe_says_why(write, text, expected):
    [problem] = problems_of(write("recipe.yaml", text))
    assert expected in problem


def test_an_unknown_recipe_suggests_a_builtin_one():
    [problem] = problems_of("quikstart")
    assert "recipe 'quikstart': no such file, and no built-in recipe has that name" in problem
    assert "(did you mean 'quickstart'?); built-in: " in problem


def test_a_plugin_may_be_stated_alone(write):
    [problem] = problems_of(write("recipe.yaml", {"plugins": "gone.py"}))
    assert "gone.py" in problem


def test_quickstart_is_six_losses_and_six_controls_on_five_seeds():
    suite = compose("quickstart")
    losses = {"sft", "csft", "slic", "dpo", "offline_ppo", "kto"}
    controls = {"base", "reference", "sft_again", "random_label", "oracle_sft", "csft_2x"}
    assert Counter(run.label for run in suite.recipes) == dict.fromkeys(losses | controls, 5)
    assert {run.label for run in suite.recipes if run.control} == controls
    assert len({run.run_id for run in suite.recipes}) == len(suite.recipes) == 60
    assert len({run.setting_id for run in suite.recipes}) == 1
    assert set(suite.recipes[0].board.family) == losses
    assert suite.notes == ()
    assert all(run.tuning.trials == 25 for run in suite.recipes if not run.control)


def test_tuning_draws_as_many_settings_of_each_loss_on_dev():
    suite = compose("studies/tuning")
    settings = {(run.name, run.method_id) for run in suite.recipes if not run.control}
    losses = ("sft", "csft", "slic", "dpo", "offline_ppo", "kto")
    assert Counter(name for name, _ in settings) == dict.fromkeys(losses, 24 + 1)  # and its default
    assert {run.seed for run in suite.recipes} == {100, 101}
    assert len({run.run_id for run in suite.recipes}) == (6 * 25 + 2) * 2
    assert {run.split for run in suite.recipes} == {"dev"}


@pytest.mark.parametrize("name", builtin_recipes())
def test_a_builtin_recipe_composes_or_asks_for_the_paths_of_your_files(name):
    try:
        problems = () if compose(name, planned=True).recipes else ("no runs",)
    except RecipeError as error:
        problems = error.problems
    assert all(".path" in problem for problem in problems)
