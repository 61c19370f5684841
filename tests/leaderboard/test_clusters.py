"""Prompts that belong together: their groups are the draws, by hand and on a board."""

import math

import numpy as np
import pandas as pd
import pytest

from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.leaderboard.checkpoint import across_prompts
from halobench.leaderboard.clusters import by_group, totals
from halobench.leaderboard.stats import anova
from halobench.storage import canonical_json
from tests.leaderboard.synthetic import by_row, read_board, row, write_results

GROUPS = ["x", "y", "x", "z", "y", "x"]
VALUES = np.array([[1.0, 0, 1, 0, 1, 1], [0.0, 0, 1, 1, 1, 0]])


def grouped(num_seeds, num_groups=40, *, seed=0):
    """Noise of seeds, of groups and of cells, in groups of one to four prompts, and the groups."""
    stream = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), 1 + np.arange(num_groups) % 4)
    stream.shuffle(groups)
    shared = stream.normal(0, 0.5, num_groups)[groups]
    luck = stream.normal(0, 0.1, (num_seeds, 1))
    return luck + shared + stream.normal(0, 0.3, (num_seeds, len(groups))), groups


def test_a_group_counts_by_its_size():
    # first seed: mean 4/6; deviations 1/3, -2/3, 1/3, -2/3, 1/3, 1/3; x: 1, y: -1/3, z: -2/3; times 3/6
    expected = [4 / 6 + 1 / 2, 4 / 6 - 1 / 6, 4 / 6 - 1 / 3]
    found = by_group(VALUES, GROUPS)
    assert found[0] == pytest.approx(expected)
    assert found.mean(1) == pytest.approx(VALUES.mean(1))
    assert totals(VALUES, GROUPS).tolist() == [[3, 1, 0], [1, 1, 1]]


def test_groups_of_equal_size_are_averaged():
    found = by_group(VALUES, ["x", "y", "z", "x", "y", "z"])
    assert found == pytest.approx((VALUES[:, :3] + VALUES[:, 3:]) / 2)


def test_prompts_that_stand_alone_stay_as_they_are():
    assert by_group(VALUES, range(6)) is VALUES


def test_what_does_not_vary_still_does_not():
    assert anova(by_group(np.full((3, 6), 0.1), GROUPS)).stderr == 0


def test_a_difference_of_groups_is_that_of_prompts():
    other = VALUES[:, ::-1] ** 2
    expected = by_group(VALUES, GROUPS) - by_group(other, GROUPS)
    assert by_group(VALUES - other, GROUPS) == pytest.approx(expected)


def test_the_error_of_one_seed_is_millers():
    values, groups = grouped(1)
    num_groups, total = len(set(groups)), len(groups)
    sums = [sum(values[0][groups == g] - values[0].mean()) for g in range(num_groups)]
    expected = math.sqrt(num_groups / (num_groups - 1) * sum(s**2 for s in sums)) / total
    estimate = across_prompts(by_group(values, list(groups))[0])
    assert estimate.stderr == pytest.approx(expected)
    assert estimate.df == num_groups - 1


def board_of(tmp_path, groups, **declared):
    """A board of two losses whose prompts are in these groups, written as scorers write them."""
    stream = np.random.default_rng(3)
    tables = [stream.integers(0, 3, (3, len(groups))) / 2 for _ in range(2)]
    prompts = PromptSet(
        tuple(
            EvaluationPrompt(f"p{index:03}", group, (Message("user", "hi"),), ("a",), ("b",))
            for index, group in enumerate(groups)
        )
    )
    store = write_results(tmp_path, [*row("dpo", tables[0]), *row("kto", tables[1])], **declared)
    store.add_prompts(prompts, with_texts=False)
    for file in store.root.glob("runs/*/scores/*.json"):
        facts = pd.read_json(file, typ="series", dtype=False).to_dict()
        file.write_text(canonical_json({**facts, "config": {"prompts": prompts.sha256}}))
    return read_board(store), tables


def test_a_board_counts_groups_and_says_so(tmp_path):
    board, (dpo, kto) = board_of(tmp_path, GROUPS)
    rows = by_row(board)
    assert tuple(rows.loc["dpo", ["winrate_low", "winrate_high"]]) == pytest.approx(
        anova(by_group(dpo, GROUPS)).interval()
    )
    assert rows.loc["dpo", "winrate"] == pytest.approx(dpo.mean())
    assert tuple(rows.loc["dpo", ["prompts", "prompt_groups"]]) == (6, 3)
    [contrast] = board.tables.contrasts.to_dict("records")
    assert (contrast["low"], contrast["high"]) == pytest.approx(anova(by_group(dpo - kto, GROUPS)).interval())
    assert contrast["num_prompts"] == 3
    assert any(note.startswith("6 prompts in 3 groups") for note in board.tables.notes)


def test_a_board_of_prompts_that_stand_alone_says_nothing_of_groups(tmp_path):
    board, (dpo, _) = board_of(tmp_path, list("uvwxyz"))
    found = tuple(by_row(board).loc["dpo", ["winrate_low", "winrate_high"]])
    assert found == pytest.approx(anova(dpo).interval())
    assert "prompt_groups" not in board.tables.rows
    assert not any("groups" in note for note in board.tables.notes)


def test_one_group_alone_gives_no_interval_and_no_comparison(tmp_path):
    board, _ = board_of(tmp_path, ["x"] * 6)
    assert board.tables.contrasts.empty
    assert by_row(board).loc["dpo", "winrate"] > 0
    assert "winrate_low" not in board.tables.rows
