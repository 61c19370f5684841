"""A loss from outside the package is trained, judged and ranked beside the others."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import halobench as hb
from halobench.cli import main

PLUGIN = Path(__file__).parent / "hinge_kto.py"
PACKAGE = Path(__file__).parent.parent / "plugin_package"


@pytest.fixture
def clean_registry():
    """After the test no plug-in is registered, so that the next one can import it anew."""
    yield
    for name in [name for name in sys.modules if name.startswith("halobench_plugin_")]:
        hb.LOSSES.forget(name)
        del sys.modules[name]


def test_plugin_from_a_file_gets_a_row_beside_the_suite(tiny_recipe, tmp_path, clean_registry, capfd):
    results = tmp_path / "results"
    arguments = [str(tiny_recipe), "--results", str(results), "--jobs", "2"]
    assert main(["run", *arguments]) == 0
    alone = pd.read_csv(results / "leaderboard" / "leaderboard.csv").set_index("row")

    assert main(["run", *arguments, "--plugin", str(PLUGIN), "loss.name=hinge_kto"]) == 0

    board = pd.read_csv(results / "leaderboard" / "leaderboard.csv").set_index("row")
    assert set(board.index) == {*alone.index, "hinge_kto"}
    assert board.loc["hinge_kto", "note"] == "not in the declared family"
    # independence of irrelevant rows: nobody else's number moves
    pd.testing.assert_frame_equal(board.loc[alone.index, alone.columns], alone)
    contrasts = pd.read_csv(results / "leaderboard" / "contrasts.csv")
    families = (
        contrasts[contrasts["decode"] == "T=1"].groupby("family")[["a", "b"]].agg(list).T.to_dict("list")
    )
    assert families == {
        "losses": [["dpo"], ["kto"]],
        "hinge_kto against the losses": [["hinge_kto", "hinge_kto"], ["dpo", "kto"]],
    }
    capfd.readouterr()
    assert main(["list", "losses", "--plugin", str(PLUGIN)]) == 0
    assert "hinge_kto" in capfd.readouterr().out


def test_python_api_runs_an_overridden_recipe_and_returns_its_scores(tiny_recipe, tmp_path, clean_registry):
    results = tmp_path / "results"
    scores = hb.run(
        str(tiny_recipe),
        overrides=["seed=0", "loss.name=hinge_kto"],
        plugins=[PLUGIN],
        jobs=0,
        results=results,
    )
    assert set(scores["loss"]) == {"hinge_kto", "reference"}
    winrates = scores[(scores["metric"] == "winrate") & (scores["task"] == "T=1")]
    assert winrates["value"].between(0, 1).all()
    assert set(hb.results(results)["run_id"]) == set(scores["run_id"])
    assert set(hb.leaderboard(results)["row"]) == {"hinge_kto", "reference"}


def test_python_api_runs_a_loss_given_as_an_object(tiny_recipe, tmp_path, clean_registry):
    from halobench.registry import load_plugin

    loss = load_plugin(PLUGIN).HingeKTO(margin=2.0)
    scores = hb.run(str(tiny_recipe), overrides=["seed=0"], loss=loss, jobs=1, results=tmp_path / "results")
    assert "hinge_kto" in set(scores["loss"])


def test_plugin_from_an_installed_package_is_found(tmp_path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--target", str(site), str(PACKAGE)], check=True)
    program = (
        "import halobench as hb; from halobench.cli import main; "
        "main(['list', 'losses']); print(hb.LOSSES['square'](weight=2.0), hb.LOSSES.origin('square'))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "square" in shown
    assert "weight=2.0" in shown
    assert str(site) in shown
