"""What a search found: means by setting, the expected best of n, choices by the metric and by labels."""

from itertools import combinations

import numpy as np
import pytest
import yaml

from halobench.cli import main
from halobench.compose import compose
from halobench.leaderboard.tuning import expected_best, tuned_values, tunings
from halobench.results.store import Store
from tests.leaderboard.synthetic import Run, write_results
from tests.test_compose import BASE

# by label and seed: win rate at T=1, at T*, and accuracy on held-out labels
MEASURED = {
    "dpo default": [(0.30, 0.50, 0.60), (0.30, 0.50, 0.60)],
    "dpo 01": [(0.40, 0.60, 0.70), (0.50, 0.70, 0.70)],
    "dpo 02": [(0.20, 0.40, 0.90), (0.20, 0.40, 0.80)],
    "dpo 03": [(0.41, 0.61, 0.50), None],  # its second seed diverged
    "sft default": [(0.35, 0.55, 0.50), (0.35, 0.55, 0.50)],
    "sft 01": [(0.30, 0.50, 0.55), (0.30, 0.50, 0.55)],
    "sft 02": [(0.33, 0.53, 0.54), (0.33, 0.53, 0.54)],
    "sft 03": [(0.31, 0.51, 0.53), (0.31, 0.51, 0.53)],
}
SEEDS = [100, 101]


def search(folder, **changes):
    document = {
        **{key: value for key, value in BASE.items() if key != "loss"},
        "suite": "search",
        "split": "dev",
        "search": {
            "trials": 3,
            "priors": {
                "dpo": {"optim.lr": [1e-4, 1e-2], "loss.beta": [0.1, 10]},
                "sft": {"optim.lr": [1e-4, 1e-2]},
            },
        },
        "matrix": {"seed": SEEDS},
        **changes,
    }
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def record(root, file, left_out=()):
    runs, missing = [], []
    for recipe in compose(file).recipes:
        found = MEASURED[recipe.label][SEEDS.index(recipe.seed)]
        if (recipe.label, recipe.seed) in left_out:
            missing.append(recipe)
        elif found is None:
            runs.append(Run(recipe, status="diverged"))
        else:
            names = (("T=1", "winrate"), ("T*", "winrate"))
            values = {name: np.full(4, value) for name, value in zip(names, found, strict=False)}
            runs.append(Run(recipe, values, held_out=found[2]))
    return write_results(root, runs, missing=missing)


@pytest.fixture
def recorded(tmp_path):
    file = search(tmp_path)
    return file, record(tmp_path / "results", file)


def test_a_setting_has_the_mean_of_both_temperatures_and_all_seeds(recorded):
    [tuning] = tunings(recorded[1])
    scores = tuning.settings.set_index("setting")
    assert scores.loc["dpo 01", "score"] == pytest.approx((0.4 + 0.6 + 0.5 + 0.7) / 4)
    assert scores.loc["dpo 01", ["score, T=1", "score, T*"]].tolist() == pytest.approx([0.45, 0.65])
    assert scores.loc["dpo 02", "labels"] == pytest.approx(0.85)
    assert scores["is_default"].sum() == 2


def test_a_seed_that_diverged_counts_as_nothing_won(recorded):
    [tuning] = tunings(recorded[1])
    row = tuning.settings.set_index("setting").loc["dpo 03"]
    assert row["score"] == pytest.approx((0.41 + 0.61) / 4)
    assert (row["seeds"], row["diverged"]) == (2, 1)


def test_the_choice_is_the_best_score_and_that_of_the_labels_is_another(recorded):
    [tuning] = tunings(recorded[1])
    dpo, sft = tuning.chosen.to_dict("records")
    assert (dpo["chosen"], dpo["chosen_by_labels"]) == ("dpo 01", "dpo 02")
    assert dpo["tuned"] == pytest.approx(0.55)
    assert dpo["tuned_by_labels"] == pytest.approx(0.3)
    assert dpo["default"] == pytest.approx(0.4)
    assert dpo["median"] == pytest.approx(0.3)  # of .55, .30 and .255
    assert (sft["chosen"], sft["settings"], sft["seeds"]) == ("sft default", 4, 2)


def test_tuned_values_are_those_that_were_drawn(recorded):
    [tuning] = tunings(recorded[1])
    values = dict(tuned_values(tuning))
    [drawn] = [r for r in compose(recorded[0]).recipes if (r.label, r.seed) == ("dpo 01", 100)]
    assert values["dpo"] == {"loss.beta": drawn.loss["beta"], "optim.lr": drawn.optim.lr}
    assert values["sft"] == {"optim.lr": 0.001}  # the default of the recipe


def test_the_expected_best_of_n_is_the_mean_over_all_choices_of_n():
    scores = [0.3, 0.1, 0.4, 0.15, 0.9]
    expected = [np.mean([max(few) for few in combinations(scores, count)]) for count in range(1, 6)]
    assert expected_best(np.array(scores)) == pytest.approx(expected)


def test_best_of_n_leaves_the_default_out(recorded):
    [tuning] = tunings(recorded[1])
    sft = tuning.best[tuning.best["loss"] == "sft"]["best"].tolist()
    # means over temperatures: .40, .43, .41; of two: (.43 + .41 + .43) / 3
    assert sft == pytest.approx([1.24 / 3, 1.27 / 3, 0.43])


def test_the_verb_shows_the_choice_and_writes_files_that_recipes_take(recorded, tmp_path, capsys):
    file, store = recorded
    arguments = ["tune", str(file), "--results", str(store.root), "--limit", "0"]
    assert main([*arguments, "--write", str(tmp_path / "chosen")]) == 0
    shown = capsys.readouterr().out
    dpo = next(line for line in shown.splitlines() if line.startswith("dpo"))
    assert dpo.split()[1:7] == ["4", "2", "0.400", "0.300", "0.550", "0.300"]
    values = dict(tuned_values(tunings(store)[0]))["dpo"]
    recipe = search(tmp_path, search=None, matrix=None, loss="dpo", loss_defaults="chosen", split="test")
    text = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({key: value for key, value in text.items() if value is not None}))
    [run] = compose(recipe).recipes
    assert run.loss["beta"] == values["loss.beta"]
    assert (run.tuning.trials, run.tuning.seeds) == (4, 2)
    assert "halobench tune" in (tmp_path / "chosen" / "dpo.yaml").read_text()


def test_nothing_is_written_while_runs_are_missing(tmp_path, capsys):
    file = search(tmp_path)
    store = record(tmp_path / "results", file, left_out=[("dpo 01", 101)])
    arguments = ["tune", str(file), "--results", str(store.root), "--limit", "0"]
    assert main([*arguments, "--write", str(tmp_path / "chosen")]) == 2
    assert "nothing is written while 1 runs are missing" in capsys.readouterr().err
    assert not (tmp_path / "chosen").exists()


def test_a_search_on_the_prompts_of_the_board_is_refused(tmp_path, capsys):
    file = search(tmp_path, split="test")
    assert main(["tune", str(file), "--results", str(tmp_path / "results")]) == 2
    assert "must not be chosen on what judges them" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_store_without_a_search_has_none(tmp_path):
    assert tunings(Store(tmp_path)) == []
