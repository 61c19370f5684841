"""A row of one seed: an interval over prompts, which speaks of its weights alone, and says so."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from halobench.leaderboard.checkpoint import FLIPS, across_prompts, exact_p, mcnemar, sign_flip
from halobench.leaderboard.stats import wilson
from tests.leaderboard.synthetic import by_row, read_board, row, write_results

VALUES = np.array([0.0, 1.0, 1.0, 0.5])


def test_the_interval_of_a_checkpoint_by_hand():
    # mean 5/8; squares of the deviations 25/64, 9/64, 9/64, 1/64 add up to 44/64; over 3 and over 4: 11/192
    estimate = across_prompts(VALUES)
    assert estimate.mean == pytest.approx(5 / 8)
    assert estimate.stderr == pytest.approx(math.sqrt(11 / 192))
    half = stats.t.ppf(0.975, 3) * math.sqrt(11 / 192)
    assert estimate.interval() == pytest.approx((5 / 8 - half, 5 / 8 + half))
    assert math.isnan(estimate.seed_sd)


def test_what_does_not_vary_has_no_interval():
    assert across_prompts(np.full(7, 0.1)).stderr == 0
    assert all(math.isnan(end) for end in across_prompts(np.full(7, 0.1)).interval())


@pytest.mark.parametrize("values", [[0.5], [0.5, math.nan]])
def test_too_few_prompts_are_refused(values):
    with pytest.raises(ValueError, match="needs at least 2 prompts"):
        across_prompts(np.array(values))


def test_a_row_of_one_seed_has_an_interval_and_is_called_checkpoint_level(tmp_path):
    runs = [*row("kto", VALUES[None]), *row("dpo", np.stack([VALUES, VALUES[::-1], VALUES]))]
    rows = by_row(read_board(write_results(tmp_path, [*runs, *row("slic", VALUES[None], control=True)])))
    assert tuple(rows.loc["kto", ["winrate_low", "winrate_high"]]) == pytest.approx(
        across_prompts(VALUES).interval()
    )
    assert rows.loc["kto", "note"] == "1 of 3 seeds, checkpoint-level"
    assert rows.loc["slic", "note"] == "control, checkpoint-level"
    assert np.isnan(rows.loc["kto", "rank_low"])
    assert rows.loc["dpo", "note"] == ""


WINS = np.array([1.0, 1, 1, 1, 1, 1, 0, 0])
LOSSES = np.array([0.0, 0, 0, 0, 0, 1, 1, 0])


def test_mcnemar_by_hand():
    # 5 prompts that A alone won, 1 that B alone won: 2 * (C(6, 0) + C(6, 1)) / 2^6 = 14 / 64
    assert mcnemar(WINS, LOSSES) == pytest.approx(14 / 64)
    assert mcnemar(LOSSES, WINS) == pytest.approx(14 / 64)
    assert mcnemar(WINS, WINS) == 1


def test_flipping_signs_approaches_the_share_of_all_signs_that_are_as_extreme():
    values = np.array([0.5, 0.25, -0.125, 0.375, 0.25, 0.125, -0.25, 0.5])
    sums = np.array(list(product([-1, 1], repeat=8))) @ values
    expected = float(np.mean(np.abs(sums) >= abs(values.sum())))
    found = sign_flip(values, "a test")
    assert found == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / FLIPS))
    assert found == sign_flip(values, "a test") != sign_flip(values, "yet another test")
    assert round(found * (1 + FLIPS)) == pytest.approx(found * (1 + FLIPS))


def test_no_p_value_of_flips_is_zero_and_equal_values_give_one():
    assert sign_flip(np.ones(200), "far") == 1 / (1 + FLIPS)
    assert sign_flip(np.zeros(5), "none") == 1


def test_groups_are_flipped_as_one():
    # two groups of equal sums: of four ways to sign them two are as extreme
    values = np.array([0.25, 0.5, 0.5, 0.25])
    found = exact_p(values, np.zeros(4), ["x", "x", "y", "y"], "groups")
    assert found == pytest.approx(0.5, abs=0.02)
    assert exact_p(WINS, LOSSES, range(8), "binary") == mcnemar(WINS, LOSSES)
    assert exact_p(WINS, LOSSES, [*range(7), 0], "binary in groups") != mcnemar(WINS, LOSSES)


def test_wilson_by_hand():
    # z^2 = 3.8415; (k + z^2 / 2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2)
    z = stats.norm.ppf(0.975)
    half = z * math.sqrt(1 * 7 / 8 + z**2 / 4)
    low, high = ((1 + z**2 / 2 + side * half) / (8 + z**2) for side in (-1, 1))
    assert wilson(1, 8) == pytest.approx((low, high))
    assert wilson(8, 8) == pytest.approx((8 / (8 + z**2), 1))


def test_wins_and_losses_of_one_seed_have_wilsons_interval(tmp_path):
    runs = [*row("kto", WINS[None]), *row("dpo", np.ones((1, 8)))]
    rows = by_row(read_board(write_results(tmp_path, runs)))
    assert tuple(rows.loc["kto", ["winrate_low", "winrate_high"]]) == pytest.approx(wilson(6, 8))
    assert tuple(rows.loc["dpo", ["winrate_low", "winrate_high"]]) == pytest.approx(wilson(8, 8))


def test_rows_of_one_seed_are_compared_as_checkpoints_and_not_ranked(tmp_path):
    several = row("slic", np.stack([VALUES, VALUES[::-1], VALUES]), label="slic")
    runs = [*row("kto", VALUES[None]), *row("dpo", VALUES[None, ::-1] / 2, seeds=[7]), *several]
    control = row("sft", VALUES[None], control=True)
    board = read_board(write_results(tmp_path, [*runs, *control], family=("dpo", "kto", "slic")))
    [found] = board.tables.contrasts.to_dict("records")
    difference = VALUES[::-1] / 2 - VALUES
    assert (found["family"], found["a"], found["b"]) == ("checkpoints", "dpo", "kto")
    assert (found["level"], found["num_seeds"], found["num_prompts"]) == ("checkpoint", 1, 4)
    assert (found["low"], found["high"]) == pytest.approx(across_prompts(difference).interval())
    sums = np.array(list(product([-1, 1], repeat=4))) @ difference
    assert found["p_exact"] == pytest.approx(np.mean(np.abs(sums) >= abs(difference.sum()) - 1e-9), abs=0.02)
    rows = by_row(board)
    assert rows.loc[["kto", "dpo"], "rank_low"].isna().all()
    assert [note for note in board.tables.notes if "one seed each: 1. They speak of these weights" in note]
