"""`results import`: numbers of other programs come in as they were published, beside the runs."""

import json
import math

import pytest

from halobench.cli import main
from halobench.errors import ResultsError
from halobench.results.import_readers import read_foreign
from halobench.results.imports import add_import, import_names, read_import
from halobench.results.store import Store
from halobench.results.validate import validate

LM_EVAL = {
    "results": {
        "arc": {
            "alias": "arc",
            "sample_len": 100,
            "acc,none": 0.25,
            "acc_stderr,none": 0.0435,
            "exact_match,strict": 0.5,
            "exact_match_stderr,strict": "N/A",
            "perplexity,none": math.nan,
        }
    },
    "groups": {"all": {"acc,none": 0.3}},
    "n-samples": {"arc": {"original": 200, "effective": 100}},
    "higher_is_better": {"arc": {"acc": True, "perplexity": False}},
    "versions": {"arc": 1.0},
    "n-shot": {"arc": 5},
    "model_name": "/home/me/models/mine",
    "lm_eval_version": "0.4.13",
}
TRL = {
    "max_steps": 20,
    "log_history": [
        {"step": 10, "epoch": 0.5, "loss": 0.69, "rewards/margins": 0.1, "grad_norm": math.nan},
        {"step": 10, "epoch": 0.5, "eval_loss": 0.7},
        {"step": 20, "epoch": 1.0, "loss": 0.5},
    ],
}
ANNOTATION = {"instruction": "q", "generator_1": "base", "generator_2": "mine", "annotator": "judge"}
LEADERBOARD = """,win_rate,standard_error,n_wins,n_wins_base,n_draws,n_total,mode,length_controlled_winrate
mine,25.0,2.5,24,75,1,100,community,30.0
"""


@pytest.fixture
def read(tmp_path):
    def of(source, content, name="file.json"):
        file = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        file.write_text(text, encoding="utf-8")
        return read_foreign(source, file, "mine")

    return of


def judged(*preferences):
    return [{**ANNOTATION, "instruction": str(i), "preference": p} for i, p in enumerate(preferences)]


def numbers(found):
    return {(s.checkpoint, s.task, s.metric): (s.value, s.stderr, s.num_samples) for s in found.scores}


def test_lm_eval_results_come_with_errors_samples_and_versions(read):
    found = read("lm-eval", LM_EVAL)
    assert numbers(found) == {
        ("mine", "all", "acc"): (0.3, None, None),
        ("mine", "arc", "acc"): (0.25, 0.0435, 100),
        ("mine", "arc", "exact_match,strict"): (0.5, None, 100),
    }
    assert found.drops == {"is no finite number": 1}
    assert found.facts == {"lm_eval_version": "0.4.13", "versions.arc": "1.0", "n-shot.arc": "5"}
    assert [s.higher_is_better for s in found.scores] == [None, True, None]


def test_trl_logs_are_rows_by_step(read):
    found = read("trl", TRL)
    assert numbers(found) == {
        ("step 0000010", "eval", "loss"): (0.7, None, None),
        ("step 0000010", "train", "loss"): (0.69, None, None),
        ("step 0000010", "train", "rewards/margins"): (0.1, None, None),
        ("step 0000020", "train", "loss"): (0.5, None, None),
    }
    assert found.drops == {"is no finite number": 1}


def test_annotations_count_a_draw_half_and_leave_out_what_was_not_judged(read):
    found = read("alpaca-eval", judged(2, 1, 0, 1.5, 1.75, None))
    [score] = found.scores
    # wins 1, 0, .5, .5, .75: mean .55; squares of deviations .2025 + .3025 + .0025 + .0025 + .04 = .55
    assert score.value == pytest.approx(0.55, abs=1e-15)
    assert score.stderr == pytest.approx(math.sqrt(0.55 / 4 / 5), abs=1e-15)
    assert score.num_samples == 5
    assert score.counts == {"n_wins": 2, "n_wins_base": 1, "n_draws": 2, "n_null": 1}
    assert found.drops == {"has no preference": 1}
    assert (score.checkpoint, score.task) == ("mine", "alpaca_eval against base by judge")


def test_a_leaderboard_gives_fractions_and_no_error_of_the_length_controlled_rate(read):
    found = read("alpaca-eval", LEADERBOARD, "board.csv")
    assert numbers(found) == {
        ("mine", "alpaca_eval", "winrate"): (0.25, 0.025, 100),
        ("mine", "alpaca_eval", "lc_winrate"): (0.3, None, 100),
    }
    [winrate] = [score for score in found.scores if score.metric == "winrate"]
    assert winrate.counts == {"n_wins": 24, "n_wins_base": 75, "n_draws": 1}


# published by AlpacaEval on its leaderboards
@pytest.mark.parametrize(
    ("model", "judge", "percent", "count"),
    [
        ("alpaca-7b", "weighted_alpaca_eval_gpt4_turbo", 2.591450540223603, 805),
        ("alpaca-7b", "alpaca_eval_cot_gpt4_turbo_fn", 2.422360248447205, 805),
        ("alpaca-7b", "alpaca_eval_gpt4", 26.459627329192543, 805),
        ("oasst-sft-pythia-12b", "weighted_alpaca_eval_gpt4_turbo", 1.790114083180124, 805),
        ("zephyr-7b-beta", "alpaca_eval_gpt4", 90.5977584059776, 803),
    ],
)
def test_published_win_rates_come_out_of_their_annotations(shared_data, model, judge, percent, count):
    folder = shared_data / "alpaca_eval"
    file = folder / "results" / model / judge / "annotations.json"
    [score] = read_foreign("alpaca-eval", file, "mine").scores
    assert 100 * score.value == pytest.approx(
        percent, rel=2**-50
    )  # the last bits depend on the order of the sum
    assert score.num_samples == count
    [board] = folder.glob(f"leaderboards/*/{judge}_leaderboard.csv")
    published = read_foreign("alpaca-eval", board, "mine").scores
    [same] = [s for s in published if (s.checkpoint, s.metric) == (model, "winrate")]
    assert same.value == pytest.approx(score.value, rel=2**-50)
    assert same.stderr == pytest.approx(score.stderr, rel=1e-9)
    assert same.num_samples == count


def test_a_whole_leaderboard_is_read(shared_data):
    [file] = (shared_data / "alpaca_eval").glob("leaderboards/*2/weighted*.csv")
    scores = read_foreign("alpaca-eval", file, "mine").scores
    assert len([score for score in scores if score.metric == "winrate"]) == 223


@pytest.mark.parametrize(
    ("source", "content", "told"),
    [
        ("lm-eval", "{", "Expecting property name"),
        ("lm-eval", "[" * 100_000, "is nested too deeply"),
        ("lm-eval", {}, "results: must be a mapping"),
        ("lm-eval", {"results": {"arc": 3}}, "results.arc: must be a mapping"),
        ("lm-eval", {"results": {"arc": {"alias": "arc"}}}, "holds no number"),
        ("lm-eval", LM_EVAL | {"n-samples": {"arc": {"effective": -1}}}, "num_samples"),
        ("trl", [], "the file: must be a mapping"),
        ("trl", {"log_history": None}, "has no log_history"),
        ("trl", {"log_history": [{"loss": 1}]}, "log_history.0: step = None"),
        ("trl", {"log_history": [{"step": True, "loss": 1}]}, "step = True"),
        ("alpaca-eval", {}, "must be a list of annotations"),
        ("alpaca-eval", [{"preference": 1}], "annotation 0: must have instruction"),
        ("alpaca-eval", [ANNOTATION], "annotation 0: must have a preference"),
        ("alpaca-eval", judged(1, 2.5), r"annotation 1: preference = 2.5: must be 0 or 1 to 2"),
        ("alpaca-eval", judged(math.inf), "preference = inf"),
        ("alpaca-eval", judged("2"), "preference = '2'"),
        ("alpaca-eval", judged(1)[:1] * 2, "2 times"),
        ("alpaca-eval", judged(None), "has no preference at all"),
    ],
)
def test_what_is_no_such_file_is_told_in_one_line(read, source, content, told):
    with pytest.raises(ResultsError, match=told) as caught:
        read(source, content)
    [problem] = caught.value.problems
    assert "file.json" in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (("25.0", "a lot"), "line 2: win_rate = 'a lot': must be a number"),
        (("25.0", "nan"), "line 2: win_rate = 'nan'"),
        ((",100,", ",100.5,"), "n_total = '100.5': must be a whole number"),
        (("mine,25", ",25"), "line 2 names no model"),
        (("win_rate", "rate"), "has no column win_rate"),
        (("30.0\n", "30.0\nmine,25.0,2.5,24,75,1,100,dev,1\n"), "has 'mine' 2 times"),
    ],
)
def test_a_damaged_leaderboard_is_told_by_line(read, edit, told):
    with pytest.raises(ResultsError, match=told):
        read("alpaca-eval", LEADERBOARD.replace(*edit, 1), "board.csv")


def test_an_import_is_kept_once_and_never_replaced(read, tmp_path):
    store = Store(tmp_path / "results")
    file = add_import(store, read("trl", TRL))
    before = file.read_bytes()
    add_import(store, read("trl", TRL))
    assert file.read_bytes() == before
    with pytest.raises(ResultsError, match="is that of another import"):
        add_import(store, read("lm-eval", LM_EVAL))
    assert read_import(store, "mine").source == "trl"
    assert validate(store).problems == []


@pytest.mark.parametrize("name", ["", "../runs/x", "a/b", ".tmp-1", "a b"])
def test_a_name_that_is_no_name_is_refused(read, tmp_path, name):
    store = Store(tmp_path / "results")
    with pytest.raises(ResultsError, match="must be letters, digits"):
        add_import(store, read("trl", TRL).model_copy(update={"name": name}))
    assert import_names(store) == []


def test_failed_judgements_are_counted_and_more_than_two_percent_refused(read, tmp_path):
    store = Store(tmp_path / "results")
    few = read("alpaca-eval", judged(*[2] * 49, None))
    assert few.scores[0].counts["n_null"] == 1
    file = add_import(store, few)
    assert validate(store).problems == []
    many = read("alpaca-eval", judged(*[2] * 48, None))
    with pytest.raises(ResultsError, match="1 of 49 judgements failed, more than 2%") as caught:
        add_import(store, many.model_copy(update={"name": "other"}))
    assert "judge those again" in str(caught.value)
    file.write_text(many.model_dump_json())
    [problem] = validate(store).problems
    assert problem.startswith(f"{file}: mine: alpaca_eval against base by judge: 1 of 49")


def test_the_verbs_import_list_and_show(tmp_path, capsys):
    file, results = tmp_path / "state.json", ["--results", str(tmp_path / "results")]
    file.write_text(json.dumps(TRL))
    assert main(["results", "import", "trl", str(file), "--name", "mine", *results]) == 0
    text = capsys.readouterr().out
    assert "4 numbers of 2 checkpoints; never ranked" in text
    assert "left out: 1, because: is no finite number" in text
    assert main(["list", "imports", *results]) == 0
    assert capsys.readouterr().out.startswith("mine  trl, 4 numbers: logs of one training")
    assert main(["show", "mine", *results]) == 0
    assert "kind: import" in capsys.readouterr().out
    assert main(["show", "mine", "--json", *results]) == 0
    assert len(json.loads(capsys.readouterr().out)["scores"]) == 4


def test_a_damaged_import_is_told(read, tmp_path):
    store = Store(tmp_path / "results")
    file = add_import(store, read("trl", TRL))
    file.write_text(file.read_text().replace("0.69", "NaN"))
    assert any(
        line.startswith(f"{file}: ") and "NaN is no number" in line for line in validate(store).problems
    )
