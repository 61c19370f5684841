"""What a board says of synthetic runs: pairing, ranks, families, controls, notes."""

import numpy as np
import pandas as pd
import pytest

from halobench.leaderboard.build import build_boards
from halobench.leaderboard.stats import anova
from halobench.leaderboard.text import display_table
from tests.leaderboard.synthetic import Run, by_row, make_recipe, read_board, row, write_results

PROMPTS = 12


def wins(level, seeds=3, *, shift=0):
    """A (seeds, prompts) table around `level`, in eighths so that float32 holds it exactly."""
    stream = np.random.default_rng([seeds, shift])
    noise = stream.integers(-1, 2, (seeds, PROMPTS)) / 8
    return level + noise


ONLINE = {"rounds": 2, "judge": {"name": "oracle"}}
BASE = [*row("dpo", wins(0.25)), *row("kto", wins(0.75, shift=1))]


def board_of(tmp_path, runs, **declared):
    return read_board(write_results(tmp_path / "results", runs, **declared))


def contrast(board, a, b, decode="T=1"):
    frame = board.tables.contrasts
    [found] = frame[(frame["a"] == a) & (frame["b"] == b) & (frame["decode"] == decode)].to_dict("records")
    return found


def note(board, part):
    return [text for text in board.tables.notes if part in text]


def test_a_row_is_the_mean_over_its_seeds_and_prompts(tmp_path):
    rows = by_row(board_of(tmp_path, BASE))
    assert rows.loc["dpo", "winrate"] == pytest.approx(wins(0.25).mean())
    assert rows.loc["dpo", "seeds"] == 3
    assert rows.loc["dpo", "winrate_low"] < rows.loc["dpo", "winrate"] < rows.loc["dpo", "winrate_high"]
    assert rows.loc["dpo", "seed_sd"] == pytest.approx(np.std(wins(0.25).mean(1), ddof=1))


def test_a_difference_is_paired_by_seed_and_prompt(tmp_path):
    # a common disturbance of each (seed, prompt) cancels: all differences are 1/4 or 1/2
    common = wins(0.25)
    gain = np.where(np.arange(PROMPTS) < 4, 0.25, 0.5) * np.ones((3, 1))
    gain[0, 0] = 0.5
    board = board_of(tmp_path, [*row("dpo", common), *row("kto", common + gain)])
    found = contrast(board, "dpo", "kto")
    assert found["difference"] == pytest.approx(-(11 * 0.25 + 25 * 0.5) / 36, abs=1e-12)
    assert (found["num_seeds"], found["num_prompts"]) == (3, PROMPTS)
    assert found["high"] < 0
    assert found["verdict"] == "worse"


def test_a_control_that_cannot_be_held_against_one_row_is_told(tmp_path):
    again = row("sft", wins(0.25, shift=3), seeds=[50, 51, 52], label="sft_again", control=True)
    alone = [*BASE, *row("sft", wins(0.25, shift=2)), *again]
    assert note(board_of(tmp_path / "one", alone), "Control not tested") == []
    both = board_of(tmp_path / "two", [*alone, *row("sft", wins(0.5, shift=4), **{"optim.lr": 0.5})])
    told = "Control not tested: sft_again against sft, for several rows are called so."
    assert note(both, "Control not tested") == [told]


def test_a_row_is_held_against_the_sft_model_that_answers_as_surely(tmp_path):
    own, sharpened = wins(0.5), wins(0.25, shift=5)
    runs = row("kto", {"T=1": own, "sft@T": sharpened})
    board = board_of(tmp_path, [*runs, *row("dpo", wins(0.25))])
    rows = by_row(board)
    gain = anova(own - sharpened)
    shown = rows.loc["kto", ["beyond_sharpening", "beyond_sharpening_low", "beyond_sharpening_high"]]
    assert list(shown) == pytest.approx([gain.mean, *gain.interval()])
    assert pd.isna(rows.loc["dpo", "beyond_sharpening"])
    headers, lines = display_table(board)
    place = headers.index("Beyond SFT as sure")
    low, high = gain.interval()
    assert lines[0][place] == f"{gain.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def test_losses_are_ranked_among_those_that_were_shown_the_same_feedback(tmp_path):
    thin = {"data.desirable_fraction": 0.1}
    runs = [
        *BASE,
        *row("dpo", wins(0.25, shift=2), **thin),
        *row("kto", wins(0.75, shift=3), **thin),
        *row("kto", wins(0.5, shift=4), **{"data.label_noise": 0.2}),
    ]
    board = board_of(tmp_path, runs)
    rows = by_row(board)
    assert [tuple(rows.loc[name, ["rank_low", "rank_high"]]) for name in rows.index[rows["note"] == ""]] == [
        (1, 1),
        (2, 2),
    ]
    assert set(rows["note"]) == {
        "",
        "other data: desirable_fraction=0.1",
        "other data: label_noise=0.2",
    }
    families = board.tables.contrasts.groupby("family").size().to_dict()
    assert families == {"losses": 1, "losses, desirable_fraction=0.1": 1}
    [thinned] = board.tables.contrasts[lambda t: t["family"] != "losses"].to_dict("records")
    assert thinned["difference"] == pytest.approx((wins(0.25, shift=2) - wins(0.75, shift=3)).mean())


def test_only_common_seeds_are_compared(tmp_path):
    first, second = wins(0.25, 4), wins(0.5, 5, shift=1)
    runs = [*row("dpo", first, seeds=[0, 1, 2, 3]), *row("kto", second, seeds=[1, 2, 3, 4, 5])]
    found = contrast(board_of(tmp_path, runs), "dpo", "kto")
    assert found["num_seeds"] == 3
    assert found["difference"] == pytest.approx((first[1:] - second[:3]).mean(), abs=1e-12)


def test_samples_of_a_prompt_are_averaged_first(tmp_path):
    samples = np.stack([wins(0.25), wins(0.5, shift=5)], axis=1)  # (seeds, samples, prompts)
    board = board_of(tmp_path, [*row("dpo", samples), *row("kto", wins(0.75, shift=1))])
    found = contrast(board, "dpo", "kto")
    assert found["num_prompts"] == PROMPTS
    assert found["difference"] == pytest.approx((samples.mean(1) - wins(0.75, shift=1)).mean(), abs=1e-12)


def test_rows_scored_on_other_prompts_are_not_compared(tmp_path):
    store = write_results(tmp_path / "results", BASE)
    for file in store.root.glob("runs/kto-*/scores/*.parquet"):
        frame = pd.read_parquet(file)
        frame.assign(prompt_id="other-" + frame["prompt_id"]).to_parquet(file, index=False)
    assert read_board(store).tables.contrasts.empty


def test_clear_differences_give_ranks_and_noise_gives_none(tmp_path):
    clear = by_row(board_of(tmp_path / "clear", BASE))
    assert [tuple(clear.loc[name, ["rank_low", "rank_high"]]) for name in ("kto", "dpo")] == [(1, 1), (2, 2)]
    assert list(clear.index) == ["kto", "dpo"]  # best first
    tied = board_of(tmp_path / "tied", [*row("dpo", wins(0.5)), *row("kto", wins(0.5, shift=1))])
    assert [tuple(pair) for pair in by_row(tied)[["rank_low", "rank_high"]].to_numpy()] == [(1, 2), (1, 2)]
    assert note(tied, "1 of 1 pairs of losses are not separable")


DIVERGED = [*row("slic", wins(0.5, 2), seeds=[0, 1]), Run(make_recipe("slic", seed=2), status="diverged")]


@pytest.mark.parametrize(
    ("runs", "name", "reason"),
    [
        (row("slic", wins(0.5, 2)), "slic", "2 of 3 seeds"),
        (row("slic", wins(0.5), **{"budget.multiple": 2}), "slic", "budget 2.0x"),
        (DIVERGED, "slic", "1 of 3 seeds diverged"),
        (row("sft", wins(0.5)), "sft", "not in the declared family"),
        (row("slic", wins(0.5), **{"data.online": ONLINE}), "slic-online", "other data: its own answers"),
        (
            row("slic", wins(0.5), label="slic", **{"data.online": ONLINE}),
            "slic",
            "other data: its own answers",
        ),
        (row("slic", wins(0.5), control=True, label="odd"), "odd", "control"),
    ],
)
def test_an_unranked_row_says_why_and_takes_no_rank(tmp_path, runs, name, reason):
    board = board_of(tmp_path, [*BASE, *runs], family=("dpo", "kto", "slic"))
    rows = by_row(board)
    assert rows.loc[name, "note"] == reason
    assert pd.isna(rows.loc[name, "rank_low"])
    assert list(rows.loc[["kto", "dpo"], "rank_high"]) == [1, 2]  # of two, not of three
    losses = board.tables.contrasts[board.tables.contrasts["family"] == "losses"]
    assert set(losses["a"]) | set(losses["b"]) == {"dpo", "kto"}


def test_a_diverged_seed_and_a_missing_run_are_counted(tmp_path):
    store = write_results(tmp_path, [*BASE, *DIVERGED], missing=[make_recipe("kto", seed=9)])
    board = read_board(store)
    assert by_row(board).loc["slic", "seeds_diverged"] == 1
    assert note(board, "1 runs of the suite are missing.")


def test_controls_come_last_whatever_their_numbers(tmp_path):
    best = row("sft", wins(0.875), control=True, label="best")
    rows = by_row(board_of(tmp_path, [*best, *BASE]))
    assert list(rows.index) == ["kto", "dpo", "best"]


def test_a_loss_outside_the_family_changes_no_other_row(tmp_path):
    before = board_of(tmp_path / "before", BASE)
    after = board_of(tmp_path / "after", [*BASE, *row("slic", wins(0.875, shift=2))])
    old, new = by_row(before), by_row(after)
    pd.testing.assert_frame_equal(new.loc[old.index, old.columns], old, check_dtype=False)
    frame = after.tables.contrasts
    pd.testing.assert_frame_equal(frame[frame["family"] == "losses"], before.tables.contrasts)
    outside = frame[frame["family"] == "slic against the losses"]
    assert set(zip(outside["a"], outside["b"], strict=True)) == {("slic", "dpo"), ("slic", "kto")}
    assert set(frame["family"]) == {"losses", "slic against the losses"}


def test_a_row_whose_first_seed_diverged_is_still_compared(tmp_path):
    first = Run(make_recipe("slic", seed=0), status="diverged")
    rest = row("slic", wins(0.875, 2, shift=2), seeds=[1, 2])
    found = contrast(board_of(tmp_path, [*BASE, first, *rest]), "slic", "dpo")
    assert found["num_seeds"] == 2
    assert found["difference"] == pytest.approx((wins(0.875, 2, shift=2) - wins(0.25)[1:]).mean(), abs=1e-12)


def test_rows_of_one_label_are_told_apart_by_what_differs(tmp_path):
    small = row({"name": "kto", "beta": 0.1}, wins(0.5))
    large = row({"name": "kto", "beta": 0.3}, wins(0.75, shift=1))
    fast = row({"name": "kto", "beta": 0.3}, wins(0.25, shift=2), **{"optim.lr": 0.5})
    assert set(by_row(board_of(tmp_path / "two", [*small, *large])).index) == {
        "kto (beta=0.1)",
        "kto (beta=0.3)",
    }
    assert set(by_row(board_of(tmp_path / "three", [*small, *large, *fast])).index) == {
        "kto (beta=0.1, optim.lr=0.001)",
        "kto (beta=0.3, optim.lr=0.001)",
        "kto (beta=0.3, optim.lr=0.5)",
    }


def test_tuning_runs_are_on_no_board(tmp_path):
    store = write_results(tmp_path, row("kto", wins(0.5), split="dev"))
    assert build_boards(store) == []


def test_no_run_of_a_suite_over_base_models_is_lost(tmp_path):
    runs = [*row("kto", wins(0.5), base_seed=0), *row("kto", wins(0.75, shift=1), base_seed=1)]
    boards = build_boards(write_results(tmp_path, runs))
    shown = [rec.run_id for board in boards for row_ in board.setting.rows for rec in row_.records.values()]
    assert sorted(shown) == sorted(run.recipe.run_id for run in runs)


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ([(6, 3), (6, 3)], False),
        ([(6, 3), (5, 3)], True),
        ([(0, 0), (0, 0)], True),
    ],
)
def test_unequal_tuning_makes_a_board_provisional(tmp_path, tuning, expected):
    trials = [{"trials": trials, "seeds": seeds} for trials, seeds in tuning]
    runs = [*row("dpo", wins(0.5), tuning=trials[0]), *row("kto", wins(0.75), tuning=trials[1])]
    assert bool(note(board_of(tmp_path, runs), "Provisional: unequal tuning.")) == expected


def test_conditions_are_stated(tmp_path):
    replicated = board_of(tmp_path / "replicated", BASE)
    assert note(replicated, "Conditional on base 0 and world 0")
    assert not note(replicated, "Conditional on split")
    pinned = [*row("dpo", wins(0.5), split_seed=4), *row("kto", wins(0.75), split_seed=4)]
    assert note(board_of(tmp_path / "pinned", pinned), "Conditional on split 4: all seeds share the data")


def test_rows_that_saw_other_feedback_are_reported(tmp_path):
    odd = [run._replace(feedback="other") if run.recipe.seed == 1 else run for run in BASE[3:]]
    board = board_of(tmp_path / "odd", [*BASE[:3], *odd])
    assert note(board, "Not comparable: seed 1: dpo and kto saw different feedback.")
    assert not note(board, "seed 0")
    assert not note(board_of(tmp_path / "even", BASE), "Not comparable")


@pytest.mark.parametrize(
    ("star", "expected"), [(0.75, "True"), (0.125, "False")], ids=["the same sign", "another sign"]
)
def test_a_difference_is_robust_if_it_has_one_sign_at_both_temperatures(tmp_path, star, expected):
    runs = [
        *row("dpo", {"T=1": wins(0.25), "T*": wins(0.5)}),
        *row("kto", {"T=1": wins(0.75, shift=1), "T*": wins(star, shift=1)}),
    ]
    board = board_of(tmp_path, runs)
    assert {contrast(board, "dpo", "kto", decode)["robust"] for decode in ("T=1", "T*")} == {expected}


def test_without_a_second_temperature_nothing_is_said_of_robustness(tmp_path):
    assert contrast(board_of(tmp_path, BASE), "dpo", "kto")["robust"] == ""


@pytest.mark.parametrize(
    ("control", "baseline", "level", "outcome"),
    [
        ("oracle_sft", "sft", 0.875, "passed"),
        ("oracle_sft", "sft", 0.5, "FAILED"),
        ("oracle_sft", "sft", 0.125, "FAILED"),
        ("sft_again", "sft", 0.5, "passed"),
        ("sft_again", "sft", 0.875, "FAILED"),
        ("random_label", "reference", 0.5, "passed"),
        ("random_label", "reference", 0.125, "passed"),  # it may do harm
        ("random_label", "reference", 0.875, "FAILED"),
    ],
)
def test_the_gate_says_which_controls_came_out_as_they_must(tmp_path, control, baseline, level, outcome):
    evaluate = "reference" if baseline == "reference" else "aligned"
    runs = [
        *row("sft", wins(0.5), label=baseline, evaluate=evaluate, control=evaluate == "reference"),
        *row("sft", wins(level, shift=1), label=control, control=True, **{"optim.lr": 0.5}),
    ]
    [text] = note(board_of(tmp_path, runs, family=("sft",)), f"{control} ")
    assert text.startswith(f"Control {outcome}: {control} ")


def test_the_same_loss_on_other_seeds_is_compared_though_no_seed_is_common(tmp_path):
    first, second = wins(0.5, 3), wins(0.5, 4, shift=1)
    again = row("sft", second, seeds=[50, 51, 52, 53], label="sft_again", control=True)
    board = board_of(tmp_path, [*row("sft", first), *again], family=("sft",))
    found = contrast(board, "sft_again", "sft")
    assert (found["family"], found["num_seeds"]) == ("controls", 3)
    assert found["difference"] == pytest.approx(second.mean() - first.mean(), abs=1e-12)  # all of its seeds


def test_equal_rows_are_inconclusive_and_have_no_interval(tmp_path):
    board = board_of(tmp_path, [*row("dpo", wins(0.5)), *row("kto", wins(0.5))])
    found = contrast(board, "dpo", "kto")
    assert (found["difference"], found["verdict"]) == (0, "inconclusive")
    assert pd.isna(found["low"])
    assert [tuple(pair) for pair in by_row(board)[["rank_low", "rank_high"]].to_numpy()] == [(1, 2), (1, 2)]


def test_collapses_have_an_exact_interval(tmp_path):
    fell = [run._replace(aggregates={("T=1", "collapse"): run.recipe.seed == 0}) for run in BASE]
    rows = by_row(board_of(tmp_path, fell))
    # one of three: the beta quantiles of Clopper and Pearson, R: binom.test(1, 3)$conf.int
    found = rows.loc["kto", ["collapses", "collapse_low", "collapse_high"]]
    assert list(found) == pytest.approx([1, 0.008403759, 0.9057007], abs=1e-6)


def test_what_collapsed_is_said_in_words(tmp_path):
    many = row("kto", wins(0.75, 20, shift=1))
    fell = [run._replace(aggregates={("T=1", "collapse"): run.recipe.seed in (4, 9)}) for run in many]
    whole = [run._replace(aggregates={("T=1", "collapse"): 0.0}) for run in BASE[:3]]
    board = board_of(tmp_path / "fell", [*whole, *fell])
    [text] = note(board, "Collapsed")
    assert "intervals of how often: kto 2 of 20 seeds [1%, 32%]. The" in text  # R: binom.test(2, 20)$conf.int
    assert not note(board_of(tmp_path / "whole", whole), "Collapsed")


def test_a_board_may_be_about_a_metric_of_your_own_scorer(tmp_path):
    def own(runs):
        return [run._replace(values={("T=1", "politeness"): run.values["T=1", "winrate"]}) for run in runs]

    board = board_of(tmp_path, own(BASE), metric="oracle/politeness")
    rows = by_row(board)
    assert list(rows["rank_high"]) == [1, 2]
    assert rows.loc["kto", "politeness"] == pytest.approx(wins(0.75, shift=1).mean())


@pytest.mark.parametrize("metric", ["oracle/unheard", "implied_reward/accuracy"])
def test_a_board_about_a_metric_that_nobody_measured_ranks_nobody(tmp_path, metric):
    board = board_of(tmp_path, BASE, metric=metric)
    assert set(board.tables.rows["row"]) == {"dpo", "kto"}
    assert board.tables.contrasts.empty
