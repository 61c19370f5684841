"""The public names, what importing them costs, and the Python calls that read results."""

import ast
import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from types import ModuleType

import pandas as pd
import pytest

import halobench
from halobench.compose import compose
from tests.leaderboard.synthetic import Run, row, write_results

HEAVY = {"torch", "lightning", "transformers"}
LIGHT = ["halobench", "halobench.errors", "halobench.registry", "halobench.recipe", "halobench.feedback"]
LIGHT += [
    "halobench.storage",
    "halobench.validation",
    "halobench.check.point",
    "halobench.compose",
    "halobench.api",
]
for package in ("halobench.results", "halobench.leaderboard", "halobench.cli"):
    found = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    LIGHT += [package, *(module.name for module in found)]
WINS = [[1.0, 0.0, 0.5], [1.0, 1.0, 0.5], [0.5, 1.0, 0.0]]


def heavy_imports(*modules):
    """Import modules one after the other in a new process; return which of them brought something heavy."""
    code = f"""
import importlib, sys
found = {{}}
for name in {modules!r}:
    importlib.import_module(name)
    heavy = {HEAVY!r} & sys.modules.keys()
    if heavy:
        found[name] = sorted(heavy)
        for loaded in list(sys.modules):
            if loaded.split(".")[0] in heavy:
                del sys.modules[loaded]
print(found)
"""
    return ast.literal_eval(subprocess.check_output([sys.executable, "-c", code], text=True))


def test_light_modules_import_nothing_heavy():
    assert heavy_imports(*LIGHT) == {}


def test_the_check_of_imports_can_fail():
    assert heavy_imports("halobench", "halobench.losses.base") == {"halobench.losses.base": ["torch"]}


def test_what_loads_late_is_exactly_what_is_public():
    late = [name for names in halobench._HOMES.values() for name in names]
    assert sorted(late) == sorted(halobench.__all__) == dir(halobench)
    assert len(late) == len(set(late))


@pytest.mark.parametrize("name", halobench.__all__)
def test_a_public_name_is_the_object_of_its_home_and_not_a_module(name):
    # functions share their names with modules, which the import system binds over them
    if importlib.util.find_spec(f"halobench.{name}") is not None:
        importlib.import_module(f"halobench.{name}")
    home = importlib.import_module(halobench._HOME_OF[name])
    assert getattr(halobench, name) is getattr(home, name)
    assert not isinstance(getattr(halobench, name), ModuleType)


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="module 'halobench' has no attribute 'loss'"):
        _ = halobench.loss


def test_a_loss_can_be_registered_in_a_notebook():
    # there, as in `python -`, the class has no source file
    code = """
from halobench import LOSSES, Loss, LossOutput, Pairs, Positive, register_loss

@register_loss("from_a_cell", source="a notebook")
class FromACell(Loss):
    beta: Positive = 0.1

    def __call__(self, batch: Pairs) -> LossOutput:
        return LossOutput(losses=-self.beta * batch.chosen.log_ratio)

assert LOSSES["from_a_cell"] is FromACell
assert isinstance(LOSSES.origin("from_a_cell"), str)
"""
    done = subprocess.run([sys.executable, "-"], input=code, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_results_gives_every_score_as_a_table(tmp_path):
    write_results(tmp_path, [*row("kto", WINS), *row("dpo", WINS)])
    table = halobench.results(tmp_path)
    assert isinstance(table, pd.DataFrame)
    assert sorted(zip(table["loss"], table["seed"], strict=True)) == [
        (loss, seed) for loss in ("dpo", "kto") for seed in (0, 1, 2)
    ]


def test_leaderboard_gives_the_rows_of_every_board(tmp_path):
    write_results(tmp_path, [*row("kto", WINS), *row("dpo", WINS)])
    write_results(tmp_path, row("sft", WINS, suite="other"), family=("sft",))
    table = halobench.leaderboard(tmp_path)
    assert sorted(zip(table["suite"], table["row"], strict=True)) == [
        *(("other", "sft"), ("synthetic", "dpo"), ("synthetic", "kto"))
    ]
    assert table["winrate"].to_list() == pytest.approx([5.5 / 9] * 3)
    assert halobench.leaderboard(tmp_path / "nothing").empty


def test_run_wants_a_registered_loss(tmp_path, tiny_recipe):
    class Stranger(halobench.Loss):
        def __call__(self, batch: halobench.Pairs) -> halobench.LossOutput: ...

    with pytest.raises(halobench.RecipeError, match="Stranger is not registered; put @register_loss"):
        halobench.run(tiny_recipe, loss=Stranger(), results=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_run_of_what_is_recorded_does_nothing_even_if_every_run_diverged(tmp_path, tiny_recipe, home):
    overrides = ["loss.name=dpo", "seed=0"]
    results = tmp_path / "results"
    recipes = compose(tiny_recipe, overrides).recipes
    write_results(results, [Run(recipe, status="diverged") for recipe in recipes])
    table = halobench.run(tiny_recipe, overrides=overrides, jobs=0, results=results)
    assert table.empty
    assert {"run_id", "loss", "seed", "metric", "value"} <= set(table.columns)
    assert (results / "leaderboard" / "index.html").is_file()
    assert not home.exists()
