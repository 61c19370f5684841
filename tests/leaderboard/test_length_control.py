"""Win rates at equal length: a planted taste for length is found and taken out, and nothing else is."""

import math
from functools import cache

import numpy as np
import pytest

from halobench.leaderboard.bootstrap import generator
from halobench.leaderboard.length_control import length_controlled
from halobench.worlds.cafe import Cafe
from tests.leaderboard.synthetic import Run, by_row, make_recipe, read_board, write_results

SEEDS, PROMPTS, BIAS = 5, 200, 1.5


def sigma(logit):
    return 1 / (1 + np.exp(-logit))


@cache
def verbose_policy():
    """Gaps of true utility and of length between the longest of three answers of the staff and the chosen."""
    world = Cafe(0)
    rows = world.prompt_set("test").rows[:PROMPTS]
    asked = [row.prompt for row in rows]
    draws = [[world.best_of(asked, 1, seed=3 * s + i) for i in range(3)] for s in range(SEEDS)]

    def quality(row, text):
        return sum(world.utility(row.prompt, f"{text} <eos>").values())

    gaps, excess = np.zeros((2, SEEDS, PROMPTS))
    for seed, row in np.ndindex(SEEDS, PROMPTS):
        said = max((draw[row] for draw in draws[seed]), key=lambda text: len(text.split()))
        chosen = rows[row].chosen[0]
        gaps[seed, row] = quality(rows[row], said) - quality(rows[row], chosen)
        excess[seed, row] = len(said.split()) - len(chosen.split())
    return gaps, excess


def judged(bias):
    """Win rates by a judge that sees utility with noise, and adds a bonus for length; and the lengths."""
    gaps, excess = verbose_policy()
    return sigma(gaps + bias * np.tanh(excess / excess.std())), excess


def test_a_planted_taste_for_length_is_taken_out():
    truth = length_controlled(*judged(0.0), range(PROMPTS))
    wins, excess = judged(BIAS)
    found = length_controlled(wins, excess, range(PROMPTS))
    low, high = found.interval()
    assert excess.mean() > 0.3 * excess.std()  # a verbose policy
    assert wins.mean() - judged(0.0)[0].mean() > 0.05  # whom such a judge flatters
    assert low < truth.winrate < high
    assert not low < wins.mean() < high
    assert found.gamma.interval()[0] > 0.5


def test_lengths_that_have_nothing_to_do_with_the_answers_change_nothing():
    wins, excess = judged(0.0)
    order = np.random.default_rng(0).permutation(PROMPTS)
    found = length_controlled(wins, excess[:, order], range(PROMPTS))
    (low, high), gamma = found.interval(), found.gamma.interval()
    assert low < wins.mean() < high
    assert found.winrate == pytest.approx(wins.mean(), abs=0.01)
    assert gamma[0] < 0 < gamma[1]


@pytest.mark.parametrize("num_seeds", [1, SEEDS])
def test_the_error_is_that_of_refitting_to_seeds_and_prompts_drawn_anew(num_seeds):
    wins, excess = (table[:num_seeds] for table in judged(BIAS))
    stream, refits = generator("refits"), []
    for _ in range(400):
        seeds = stream.integers(num_seeds, size=num_seeds)
        drawn = np.ix_(seeds, stream.integers(PROMPTS, size=PROMPTS))
        again = length_controlled(wins[drawn], excess[drawn], range(PROMPTS))
        refits.append((again.theta.mean, again.gamma.mean))
    found = length_controlled(wins, excess, range(PROMPTS))
    for estimate, refitted in zip((found.theta, found.gamma), np.std(refits, axis=0), strict=True):
        # drawing both ways counts what is left in a cell three times instead of once (Owen 2007)
        surplus = 2 * estimate.residual_sd**2 / wins.size
        assert math.sqrt(estimate.stderr**2 + surplus) == pytest.approx(refitted, rel=0.15)


def test_prompts_of_a_group_count_as_one_draw():
    wins, excess = judged(BIAS)
    twice = length_controlled(np.tile(wins, 2), np.tile(excess, 2), [*range(PROMPTS), *range(PROMPTS)])
    once = length_controlled(wins, excess, range(PROMPTS))
    assert twice.theta.mean == pytest.approx(once.theta.mean)
    assert twice.theta.stderr == pytest.approx(once.theta.stderr)


@pytest.mark.parametrize(
    ("wins", "excess"),
    [
        ([[0.0, 1, 1, 0.5]], [[2.0, 2, 2, 2]]),
        ([[1.0, 1, 1, 1]], [[0.0, 1, 2, 3]]),
        ([[0.0, 0, 1, 1]], [[-2.0, -1, 1, 2]]),
    ],
    ids=["lengths do not differ", "everything is won", "the longer one always wins"],
)
def test_where_the_odds_have_no_end_there_is_no_number(wins, excess):
    assert length_controlled(np.array(wins), np.array(excess), range(4)) is None


def test_a_board_shows_it_where_a_judge_recorded_both_lengths_and_does_not_rank_by_it(tmp_path):
    wins, excess = judged(BIAS)
    runs = [
        Run(
            make_recipe(loss, seed=seed),
            {
                ("T=1", "winrate"): np.clip(wins[seed] + shift, 0, 1),
                ("T=1", "length"): 20 + excess[seed],
                ("T=1", "length_baseline"): np.full(PROMPTS, 20.0),
            },
        )
        for loss, shift in (("dpo", 0.0), ("kto", 0.1))
        for seed in range(SEEDS)
    ]
    board = read_board(write_results(tmp_path, runs))
    rows, found = by_row(board), length_controlled(wins, excess, range(PROMPTS))
    columns = ["lc_winrate", "lc_winrate_low", "lc_winrate_high", "length_gamma", "length_ratio"]
    expected = [found.winrate, *found.interval(), found.gamma.mean, 1 + excess.mean() / 20]
    assert list(rows.loc["dpo", columns]) == pytest.approx(expected, abs=1e-5)  # rows are float32
    assert any("ranks nothing" in note for note in board.tables.notes)
    assert set(board.tables.contrasts["metric"]) == {"oracle/winrate"}
