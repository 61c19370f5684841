"""What the files of a leaderboard do not depend on: the machine that makes them, and runs of no concern."""

import locale
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from halobench.leaderboard import build as building
from halobench.leaderboard.build import build
from tests.leaderboard.synthetic import Run, make_recipe, row, write_results, write_scores
from tests.leaderboard.test_build import files_of, suite

# Builds a leaderboard where every folder lists its entries backwards.
BACKWARDS = """
import os, pathlib, sys
forwards = os.scandir
class Backwards:
    def __init__(self, *path):
        with forwards(*path) as entries:
            self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)
    def __enter__(self):
        return iter(self.entries)
    def __exit__(self, *error):
        pass
    def close(self):
        pass
    def __iter__(self):
        return iter(self.entries)
os.scandir, listed = Backwards, os.listdir
os.listdir = lambda *path: sorted(listed(*path), reverse=True)
os.umask(0o077)
from halobench.leaderboard.build import build
build(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
"""


def installed(*names):
    """The first of these locales that this machine has."""
    own = locale.setlocale(locale.LC_ALL)
    for name in names:
        try:
            locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue
        finally:
            locale.setlocale(locale.LC_ALL, own)  # or else later tests would write ASCII
        return name
    return "C"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("here")
    write_results(root / "results", suite())
    build(root / "results", root / "board")
    return root


@pytest.mark.parametrize(
    "strange",
    [
        {"PYTHONHASHSEED": "77", "TZ": "Pacific/Chatham", "LC_ALL": "C", "COLUMNS": "40"},
        # a comma for the decimal point, and another order of letters, where the machine knows them
        {
            "PYTHONHASHSEED": "0",
            "TZ": "America/St_Johns",
            "LC_ALL": installed("de_DE.UTF-8", "fr_FR.UTF-8", "tr_TR.UTF-8", "C.UTF-8"),
            "COLUMNS": "300",
        },
    ],
)
def test_the_same_results_give_the_same_bytes_everywhere(built, tmp_path, strange):
    # folders made, and listed, in another order; another user's mask, working directory and home
    for file in sorted(path for path in (built / "results").rglob("*") if path.is_file())[::-1]:
        copy = tmp_path / "results" / file.relative_to(built / "results")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BACKWARDS, "results", str(tmp_path / "board")],
        cwd=tmp_path,
        env={**os.environ, "HALOBENCH_HOME": str(tmp_path / "home"), **strange},
        check=True,
    )
    assert files_of(tmp_path / "board") == files_of(built / "board")


FAMILY = ("dpo", "kto", "slic")
STREAM = np.random.default_rng(5)
WINS = {name: STREAM.integers(0, 3, (3, 8)) / 2 for name in ("dpo", "kto", "csft", "again", "sft")}
# two losses of the family, one outside, and the controls of the gate
BASE = [
    *row("dpo", {"T=1": WINS["dpo"], "T*": WINS["csft"]}),
    *row("kto", {"T=1": WINS["kto"], "T*": WINS["again"]}),
    *row("csft", WINS["csft"]),
    *row("sft", WINS["sft"]),
    *row("sft", WINS["again"], label="sft_again", control=True, seeds=[100, 101, 102]),
]
ELSEWHERE = row("kto", {"T=1": WINS["kto"], "T*": WINS["again"]}, suite="other")
# What a row or a comparison is, and what may move when its family grows.
ROW, ADJUSTED_OF_ROW = ["suite", "setting", "row"], ["rank_low", "rank_high"]
PAIR = ["suite", "setting", "family", "decode", "a", "b"]
ADJUSTED_OF_PAIR = ["adjusted_low", "adjusted_high", "p_holm", "separated", "verdict"]


def table(folder, name, keys):
    return pd.read_csv(folder / name, keep_default_na=False, dtype=str).set_index(keys)


def both(tmp_path, added):
    """The files of a leaderboard before and after runs are added."""
    store = write_results(tmp_path / "results", BASE, family=FAMILY)
    build(store.root, tmp_path / "before")
    added(store)
    build(store.root, tmp_path / "after")
    return tmp_path / "before", tmp_path / "after"


def assert_unchanged(after, before, *, but=(), without=()):
    """Every number that was there is there, as it was; columns may have come."""
    old = before.drop(columns=list(but)).drop(index=list(without), level=-1)
    new = after.loc[old.index, old.columns]
    for column in old:
        pairs = zip(new[column], old[column], strict=True)
        # 3 may be written 3.0 beside a row that has none
        assert [_same(*pair) for pair in pairs] == [True] * len(old), column


def _same(new, old):
    try:
        return float(new) == float(old)
    except ValueError:
        return new == old


@pytest.fixture(autouse=True)
def no_figures(monkeypatch, request):
    if "built" not in request.fixturenames:
        monkeypatch.setattr(building, "make_plots", lambda setting, tables: [])


def add(runs, **board):
    return lambda store: write_results(store.root, runs, **{"family": FAMILY, **board})


def score_again(store):
    """Score most runs of the store in another configuration, with other outcomes: all but those of KTO."""
    for run in BASE:
        if run.recipe.loss["name"] != "kto":
            for config_id in ("aaaaaaaa", "bbbbbbbb"):
                write_scores(store.run_path(run.recipe.run_id), run, "alpaca_eval", config_id)
    for seed in range(20, 40):
        [run] = row("csft", WINS["csft"][:1], seeds=[seed], label="csft_again", control=True)
        write_results(store.root, [run], family=FAMILY)
        folder = store.run_path(run.recipe.run_id) / "scores"
        for file in folder.glob("oracle-0123abcd.*"):
            file.rename(folder / file.name.replace("0123abcd", "00000000"))


@pytest.mark.parametrize(
    "added",
    [
        pytest.param(add(row("kto", WINS["csft"], **{"data.num_pairs": 50})), id="another setting"),
        pytest.param(add(ELSEWHERE, family=("kto",)), id="another suite with the same runs"),
        pytest.param(add(row("offline_ppo", WINS["dpo"])), id="a row outside the family"),
        pytest.param(add(row("kto", WINS["dpo"], split="dev")), id="tuning"),
        pytest.param(add([Run(make_recipe("slic"), status="diverged")]), id="a diverged run"),
        pytest.param(add(row("slic", WINS["dpo"][:1])), id="a seed of an unfinished row"),
        pytest.param(add(row("dpo", WINS["kto"], evaluate="reference", control=True)), id="a control"),
        pytest.param(score_again, id="runs scored in another configuration"),
    ],
)
def test_a_run_of_no_concern_changes_no_number_of_another_row(tmp_path, added):
    before, after = both(tmp_path, added)
    assert_unchanged(table(after, "leaderboard.csv", ROW), table(before, "leaderboard.csv", ROW))
    assert_unchanged(table(after, "contrasts.csv", PAIR), table(before, "contrasts.csv", PAIR))


def test_another_seed_of_a_control_changes_that_control_alone(tmp_path):
    runs = row("sft", WINS["dpo"][:1], label="sft_again", control=True, seeds=[103])
    before, after = both(tmp_path, add(runs))
    old, new = (table(folder, "leaderboard.csv", ROW) for folder in (before, after))
    assert_unchanged(new, old, without=["sft_again"])
    assert new.xs("sft_again", level="row")["seeds"].item() == "4"
    old, new = (table(folder, "contrasts.csv", PAIR) for folder in (before, after))
    assert_unchanged(new.drop("controls", level="family"), old.drop("controls", level="family"))


def test_a_loss_of_the_family_moves_ranks_and_adjusted_numbers_alone(tmp_path):
    before, after = both(tmp_path, add(row("slic", {"T=1": WINS["again"], "T*": WINS["dpo"]})))
    old, new = (table(folder, "leaderboard.csv", ROW) for folder in (before, after))
    assert_unchanged(new, old, but=ADJUSTED_OF_ROW)
    old, new = (table(folder, "contrasts.csv", PAIR) for folder in (before, after))
    assert_unchanged(new, old, but=ADJUSTED_OF_PAIR)
    # the controls are a family of their own
    assert_unchanged(new.xs("controls", level="family"), old.xs("controls", level="family"))
    losses = [frame.xs("losses", level="family") for frame in (old, new)]
    assert (losses[1].loc[losses[0].index, "p_holm"] != losses[0]["p_holm"]).any()


def test_a_namesake_gives_a_row_a_longer_name_and_the_same_numbers(tmp_path):
    before, after = both(tmp_path, add(row({"name": "csft"}, WINS["kto"], **{"optim.lr": 0.5})))
    old, new = (table(folder, "leaderboard.csv", ROW) for folder in (before, after))
    assert_unchanged(new, old, without=["csft"])
    assert_unchanged(
        new.rename(index={"csft (optim.lr=0.001)": "csft"}, level="row"),
        old,
        without=[name for name in old.index.get_level_values("row") if name != "csft"],
    )


def test_runs_that_are_gone_take_only_their_own_row_with_them(tmp_path):
    def remove(store):
        for folder in store.root.glob("runs/csft-*"):
            shutil.rmtree(folder)

    before, after = both(tmp_path, remove)
    old, new = (table(folder, "leaderboard.csv", ROW) for folder in (before, after))
    assert_unchanged(new, old, without=["csft"])
