"""A row of one seed: an interval over prompts, which speaks of its weights alone, and says so."""

import math

import numpy as np
import pytest
from scipy import stats

from halobench.leaderboard.checkpoint import across_prompts
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
