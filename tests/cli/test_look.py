"""The verbs that look, and the help of all verbs: list, show, plan, results diff, leaderboard --check."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from halobench import UnknownNameError
from halobench.cli import main
from halobench.cli.runs import _where_time_went
from halobench.compose import compose
from halobench.grid import Outcome, missing_tasks
from halobench.leaderboard.build import build
from halobench.results.store import Store
from tests.leaderboard.synthetic import Run, row, write_results

CHECKOUT = Path(__file__).parents[2]
LOSSES = {"csft", "dpo", "kto", "offline_ppo", "sft", "slic"}


def run(capsys, *arguments):
    """Exit code, output and messages of a command."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def help_of(capsys, *verb):
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def verbs(capsys, *group):
    """Every verb that can be run, as words."""
    for name in re.findall(r"^    ([a-z][a-z-]*)\b", help_of(capsys, *group), re.MULTILINE):
        verb = (*group, name)
        inner = re.search(r"^actions:$", help_of(capsys, *verb), re.MULTILINE)
        yield from verbs(capsys, *verb) if inner else [verb]


def test_the_help_of_every_verb_has_an_example(capsys):
    found = list(verbs(capsys))
    assert {("run",), ("plan",), ("leaderboard",), ("list",), ("show",), ("new",), ("clean",)} <= set(found)
    assert {("results", verb) for verb in ("validate", "add", "diff", "verify", "retract")} <= set(found)
    for verb in found:
        _, _, examples = help_of(capsys, *verb).partition("examples:\n")
        assert f"halobench {' '.join(verb)}" in examples, verb
    assert "halobench run quickstart" in help_of(capsys)


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("losses", LOSSES),
        ("datasets", {"cafe", "jsonl"}),
        ("judges", {"oracle", "reward_model"}),
        ("scorers", {"oracle", "implied_reward", "lm_eval", "alpaca_eval"}),
        ("recipes", {"quickstart", "studies/tuning"}),
    ],
)
def test_list_says_a_line_about_each_name(capsys, what, names):
    code, text, _ = run(capsys, "list", what)
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert names <= set(lines)
    assert list(lines) == sorted(lines)
    code, text, _ = run(capsys, "list", what, "--json")
    assert code == 0
    assert {entry["name"]: entry["summary"] for entry in json.loads(text)} == lines


def test_list_runs_gives_kind_status_and_a_headline(capsys, tmp_path):
    runs = [*row("kto", [[0.5, 1.0]]), *row("dpo", [[0.25, 0.5]], split="dev")]
    write_results(tmp_path, runs)
    code, text, _ = run(capsys, "list", "runs", "--results", tmp_path)
    assert code == 0
    dpo, kto = text.splitlines()
    assert dpo == f"{runs[1].recipe.run_id}  tuning, completed, T=1 winrate 0.375"
    assert kto == f"{runs[0].recipe.run_id}  run, completed, T=1 winrate 0.750"


def test_list_runs_of_nothing_is_empty(capsys, tmp_path):
    assert run(capsys, "list", "runs", "--results", tmp_path / "none") == (0, "", "")
    assert json.loads(run(capsys, "list", "runs", "--results", tmp_path, "--json")[1]) == []


def test_show_a_loss_gives_equation_parameters_and_source(capsys):
    code, text, _ = run(capsys, "show", "dpo")
    assert code == 0
    assert "L = -log sigmoid(beta * (r_w - r_l))" in text
    assert "  beta = 0.1  (greater than 0)\n" in text
    assert "trained on Pairs, averaged per example, needs a reference\n" in text
    assert "source: Rafailov et al. 2023, arXiv:2305.18290, equation 7\n" in text
    assert re.search(r"defined in .*losses/dpo\.py:\d+", text)
    facts = json.loads(run(capsys, "show", "dpo", "--json")[1])
    assert (facts["name"], facts["view"], facts["parameters"]["beta"]["default"]) == ("dpo", "Pairs", 0.1)


@pytest.mark.parametrize(
    ("name", "key", "part"),
    [
        ("cafe", "description", "cafe: "),
        ("jsonl", "description", "source: your file"),
        ("implied_reward", "source", "source: Rafailov et al. 2023"),
        ("quickstart", "runs", "quickstart: 60 runs; rows: base, csft, csft_2x, dpo"),
    ],
)
def test_show_describes_sources_scorers_and_recipes(capsys, name, key, part):
    code, text, _ = run(capsys, "show", name)
    assert code == 0
    assert part in text
    assert json.loads(run(capsys, "show", name, "--json")[1])[key]


def test_show_a_run_gives_its_record(capsys, tmp_path):
    [mine] = row("kto", [[0.5, 1.0]])
    write_results(tmp_path, [mine])
    name = mine.recipe.run_id
    code, text, _ = run(capsys, "show", name, "--results", tmp_path)
    assert code == 0
    assert f"run_id: {name}\n" in text
    assert re.search(r"oracle +T=1 +winrate +0\.7500", text)
    record = json.loads(run(capsys, "show", name, "--results", tmp_path, "--json")[1])
    assert (record["run_id"], record["status"], record["seed"]) == (name, "completed", 0)


def test_show_an_unknown_name_suggests_the_nearest(capsys):
    code, out, err = run(capsys, "show", "quickstrat")
    assert (code, out) == (2, "")
    assert err == (
        "error: 'quickstrat': no loss, data source, scorer, judge, recipe, run or import has that name "
        "(did you mean 'quickstart'?)\n"
    )
    with pytest.raises(UnknownNameError):
        main(["--debug", "show", "quickstrat"])


def test_plan_lists_runs_as_missing_until_they_are_recorded(capsys, tmp_path, tiny_recipe, home):
    results = tmp_path / "results"
    code, text, _ = run(capsys, "plan", tiny_recipe, "--results", results, "--json")
    plan = json.loads(text)
    assert code == 0
    assert plan["suite"] == "tiny"
    assert [(entry["row"], entry["seed"]) for entry in plan["runs"]] == [
        (name, seed) for name in ("dpo", "kto", "reference") for seed in (0, 1, 2)
    ]
    assert {entry["state"] for entry in plan["runs"]} == {"missing"}
    # one base model, one SFT stage per seed, shared by all rows
    assert [stage.partition("-")[0] for stage in plan["missing_stages"]] == ["base", "sft", "sft", "sft"]
    assert not results.exists()
    assert not home.exists()

    write_results(results, [Run(compose(tiny_recipe).recipes[0], status="diverged")])
    code, text, _ = run(capsys, "plan", tiny_recipe, "--results", results)
    assert code == 0
    assert "tiny: 9 runs, 1 done, 8 missing; shared stages to make: base-" in text
    states = re.findall(r"^(\S+)-s(\d)-\S+ .* (done|missing) ", text, re.MULTILINE)
    assert [seed for name, seed, state in states if state == "done"] == ["0"]


def test_points_that_differ_in_what_their_loss_ignores_are_one_run(capsys, tmp_path, tiny_recipe):
    recipe = tmp_path / "imbalance.yaml"
    matrix = {"loss": ["sft", "kto"], "seed": [0], "data.undesirable_fraction": [1, 0.1]}
    recipe.write_text(yaml.safe_dump({"extends": [tiny_recipe.name], "matrix": matrix}))
    code, text, _ = run(capsys, "plan", recipe, "--results", tmp_path / "results", "--json")
    assert code == 0
    plan = json.loads(text)
    assert plan["points"] == 6
    # SFT sees nothing undesirable, and the reference is no run with a loss
    assert [entry["row"] for entry in plan["runs"]] == ["sft", "kto", "kto", "reference"]
    assert len(missing_tasks(compose(recipe).recipes, Store(tmp_path / "results"))) == 2 + 4
    _, text, _ = run(capsys, "plan", recipe, "--results", tmp_path / "results")
    assert "imbalance: 4 runs, 0 done, 4 missing" in text
    assert "note: 6 points are 4 runs" in text


def test_nothing_is_missing_of_the_committed_quickstart(monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    recipes = compose("quickstart").recipes
    assert missing_tasks(recipes, Store(CHECKOUT / "results")) == []
    assert len({recipe.run_id for recipe in recipes}) == 60


def wins(level, seed=0):
    return level + np.random.default_rng(seed).integers(-1, 2, (3, 12)) / 8


def folder(tmp_path, name, dpo, kto, **changes):
    """A results folder in which the losses win that often."""
    root = tmp_path / name
    write_results(root, [*row("dpo", wins(dpo), **changes), *row("kto", wins(kto, 1), **changes)])
    return root


def test_diff_of_agreeing_folders_is_all_well(capsys, tmp_path):
    first, second = folder(tmp_path, "a", 0.25, 0.75), folder(tmp_path, "b", 0.25, 0.625)
    code, text, _ = run(capsys, "results", "diff", first, second)
    assert code == 0
    # the estimates are 1/8 apart
    assert (
        text
        == f"{first} against {second}: 1 of 1 verdicts agree, 0 reversed; estimates differ by at most 0.125\n"
    )


def test_diff_names_a_verdict_that_changed(capsys, tmp_path):
    code, text, _ = run(
        capsys, "results", "diff", folder(tmp_path, "a", 0.25, 0.75), folder(tmp_path, "b", 0.5, 0.5)
    )
    assert code == 0
    assert "0 of 1 verdicts agree, 0 reversed" in text
    assert re.search(
        r"^  dpo - kto \(.*losses, T=1\): worse \(-0\.\d+\) -> inconclusive ", text, re.MULTILINE
    )


def test_diff_fails_on_a_reversed_direction(capsys, tmp_path):
    first, second = folder(tmp_path, "a", 0.25, 0.75), folder(tmp_path, "b", 0.75, 0.25)
    code, text, _ = run(capsys, "results", "diff", first, second)
    assert code == 1
    assert "0 of 1 verdicts agree, 1 reversed" in text
    assert text.count("REVERSED") == 1


@pytest.mark.parametrize("pairs", [50, 100])
def test_diff_compares_every_setting_of_a_suite(capsys, tmp_path, pairs):
    # two settings, of which one is reversed in the second folder
    for size in (50, 100):
        folder(tmp_path, "a", 0.25, 0.75, **{"data.num_pairs": size})
        levels = (0.75, 0.25) if size == pairs else (0.25, 0.75)
        folder(tmp_path, "b", *levels, **{"data.num_pairs": size})
    code, text, _ = run(capsys, "results", "diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert "1 of 2 verdicts agree, 1 reversed" in text


def test_diff_needs_two_folders_with_something_in_common(capsys, tmp_path):
    first = folder(tmp_path, "a", 0.25, 0.75)
    code, _, err = run(capsys, "results", "diff", first, tmp_path / "gone")
    assert (code, err) == (2, f"error: {tmp_path / 'gone'}: no such results folder\n")
    write_results(tmp_path / "other", row("kto", wins(0.5), suite="other"))
    code, _, err = run(capsys, "results", "diff", first, tmp_path / "other")
    assert (code, err) == (2, f"error: {first} and {tmp_path / 'other'} have no comparison in common\n")


def test_leaderboard_check_tells_fresh_stale_and_absent(capsys, tmp_path):
    root = folder(tmp_path, "a", 0.25, 0.75)
    code, text, _ = run(capsys, "leaderboard", "--results", root)
    assert code == 0
    assert text.endswith(f"board: {root / 'leaderboard' / 'index.html'}\n")
    assert run(capsys, "leaderboard", "--results", root, "--check") == (0, "", "")
    (root / "leaderboard" / "contrasts.csv").write_text("")
    code, _, err = run(capsys, "leaderboard", "--results", root, "--check")
    assert code == 1
    assert (
        err == f"stale: {root / 'leaderboard' / 'contrasts.csv'}; rebuild it with `halobench leaderboard`\n"
    )
    assert (root / "leaderboard" / "contrasts.csv").read_text() == ""
    code, _, err = run(capsys, "leaderboard", "--results", tmp_path / "gone", "--check")
    assert code == 2
    assert err.startswith(f"error: {tmp_path / 'gone'}: no such results folder; ")


def test_leaderboard_prints_the_rows_that_it_writes(capsys, tmp_path):
    root = folder(tmp_path, "a", 0.25, 0.75)
    _, text, _ = run(capsys, "leaderboard", "--results", root)
    [header] = [line for line in text.splitlines() if line.startswith("Rank")]
    assert header.split()[:2] == ["Rank", "Row"]
    assert [line.split()[:2] for line in text.splitlines() if re.match(r"\d ", line)] == [
        ["1", "kto"],
        ["2", "dpo"],
    ]
    build(root, tmp_path / "board")
    assert (tmp_path / "board" / "leaderboard.csv").read_bytes() == (
        root / "leaderboard/leaderboard.csv"
    ).read_bytes()


def test_the_end_of_a_suite_says_where_the_time_went():
    timings = {
        "kto-s0": {
            "align": {"wall": 3.0, "cpu": 2.0},
            "sampling": {"tokens": 900, "seconds": 1.5},
            "scoring": {"oracle": 2.0, "lm_eval": 0.5},
        },
        "base-s0": {
            "align": None,
            "sampling": {"tokens": 100, "seconds": 0.5},
            "scoring": {"oracle": 0.5},
        },
    }
    store = SimpleNamespace(timing=timings.__getitem__)
    outcome = Outcome(
        done=dict.fromkeys(timings, "completed"), seconds={"kto-s0": 9.0, "base-s0": 1.0, "base-1234": 5.0}
    )
    # of 15 s the stage took 5 and the alignment 3, sampling 2, other scoring 3 - 2; 1000 tokens in 2 s
    assert _where_time_went(outcome, store) == (
        "worker time 15 s: training 53%, sampling 13%, the rest of scoring 7%, everything else 27%; "
        "500 tokens sampled per second"
    )
