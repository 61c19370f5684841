"""The verb that plans an experiment: power."""

import json

import numpy as np
import pytest

from halobench.cli import main
from halobench.leaderboard.stats import anova
from tests.leaderboard.synthetic import row, write_results


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Results of KTO and DPO over 4 seeds and 30 prompts, and the differences of their win rates."""
    stream = np.random.default_rng(1)
    kto, dpo = (0.5 + stream.normal(0, 0.1, (4, 1)) + stream.normal(0, 0.2, (4, 30)) for _ in range(2))
    root = tmp_path_factory.mktemp("power")
    write_results(root, [*row("kto", kto), *row("dpo", dpo)])
    return root, np.float32(dpo) - np.float32(kto)


def planned(capsys, *arguments):
    assert main(["power", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_noise_comes_from_the_recorded_pairs(recorded, capsys):
    root, differences = recorded
    [board] = planned(capsys, "synthetic", "--results", root)
    expected = anova(differences.astype(float))
    [pair] = board["pairs"]
    assert (pair["pair"], pair["num_seeds"], pair["num_prompts"]) == ("dpo - kto", 4, 30)
    assert pair["seed_sd"] == pytest.approx(expected.seed_sd)
    assert pair["detectable"] == pytest.approx(expected.detectable)
    assert sum(pair["share"].values()) == pytest.approx(1)
    assert board["residual_sd"] == pytest.approx(expected.residual_sd)
    assert board["difference"] == 0.02  # the margin of the board


def test_stated_noise_needs_no_results(capsys, tmp_path):
    options = ["--sd", 0.02, 0.3, 0.45, "--seeds", 5, 10, "--prompts", 500, "--difference", 0.05]
    [plan] = planned(capsys, *options, "--results", tmp_path)
    designs = [(design["num_seeds"], design["num_prompts"]) for design in plan["designs"]]
    assert designs == [(5, 500), (10, 500)]
    # 4.6 points are found by 10 seeds with a power of 80%, 5.5 points by 5
    assert [design["detectable"] for design in plan["designs"]] == pytest.approx([0.055, 0.046], abs=5e-4)
    assert plan["designs"][0]["power"] < 0.8 < plan["designs"][1]["power"]
    assert 5 < plan["fewest_seeds"]["500"] < 10


def test_the_table_says_what_explains_the_noise(recorded, capsys):
    assert main(["power", "--results", str(recorded[0]), "--difference", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "dpo - kto   4x30" in printed
    assert "power to find a difference of 0.1:\n  seeds    P=200   P=500" in printed
    assert "fewest seeds that find 0.1" in printed


def test_what_cannot_be_planned_is_said_in_one_line(recorded, capsys, tmp_path):
    assert main(["power", "synthetik", "--results", str(recorded[0])]) == 2
    assert "did you mean 'synthetic'?" in capsys.readouterr().err
    write_results(tmp_path, row("kto", np.full((1, 4), 0.5)))
    assert main(["power", "--results", str(tmp_path)]) == 2
    assert "state it with --sd SEEDS PROMPTS REST" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--seeds", "1"], ["--sd", "0.1", "-1", "0"], ["--difference", "much"]])
def test_a_design_that_makes_no_sense_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        main(["power", *option])
    assert option[-2 if option[0] == "--sd" else -1] in capsys.readouterr().err
