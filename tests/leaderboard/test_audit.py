"""What is strange about a valid store is told: seeds far from the others, controls that fail."""

import numpy as np
import pytest
from scipy import stats

from halobench.leaderboard.audit import far_seeds, suspicions
from tests.leaderboard.synthetic import row, write_results


def test_how_far_a_seed_is_by_hand():
    # rows 0, 0, 3 and 1, 3: squares of deviations 6 and 2
    # the 3 of the first: away by 3, times sqrt(2/3); left 8 - 6 = 2 with 3 - 1 = 2 df: t = sqrt(6)
    scores = far_seeds([[0.0, 0.0, 3.0], [1.0, 3.0], [7.0], []])
    assert scores[0][2] == pytest.approx(stats.norm.isf(stats.t.sf(np.sqrt(6), 2)))
    # the 3 of the second: away by 2, times sqrt(1/2): sqrt(2); left 6: t = sqrt(2 / 3)
    assert scores[1][1] == pytest.approx(stats.norm.isf(stats.t.sf(np.sqrt(2 / 3), 2)))
    assert scores[1][0] == pytest.approx(-scores[1][1])
    assert scores[2:] == [[0.0], []]


def test_one_alarm_in_many_thousand_seeds_of_pure_noise():
    # |z| > 4 has a probability of 6e-5 whatever the degrees of freedom; 5000 stores of 6 seeds
    stream = np.random.default_rng(0)
    alarms = sum(
        abs(z) > 4
        for _ in range(5000)
        for row in far_seeds(stream.normal(0, 1, (2, 3)).tolist())
        for z in row
    )
    assert alarms <= 8


def test_without_any_spread_nothing_is_far():
    assert far_seeds([[0.5, 0.5], [0.25, 0.25]]) == [[0.0, 0.0], [0.0, 0.0]]


def table(level, seed):
    return level + np.random.default_rng(seed).normal(0, 0.02, (5, 40))


def test_a_seed_far_from_the_others_of_its_row_is_told(tmp_path):
    strange = table(0.6, 1)
    strange[3] -= 0.2
    runs = [*row("dpo", table(0.4, 0)), *row("kto", strange)]
    [line] = suspicions(write_results(tmp_path, runs))
    assert line.startswith(f"{runs[8].recipe.run_id}: oracle/winrate at T=1 is 0.395")
    assert "its row's other seeds have 0.599" in line
    assert "z = -" in line


def test_a_store_of_even_seeds_whose_controls_pass_has_nothing_strange(tmp_path):
    runs = [*row("dpo", table(0.4, 0)), *row("sft", table(0.6, 1))]
    again = row("sft", table(0.6, 2), seeds=range(50, 55), label="sft_again", control=True)
    assert list(suspicions(write_results(tmp_path, [*runs, *again], family=("dpo", "sft")))) == []


def test_the_same_loss_on_other_seeds_that_separates_is_told(tmp_path):
    runs = row("sft", table(0.6, 1))
    again = row("sft", table(0.7, 2), seeds=range(50, 55), label="sft_again", control=True)
    [line] = suspicions(write_results(tmp_path, [*runs, *again], family=("sft",)))
    assert "control sft_again against sft must come out not separated; it is +0.1" in line
