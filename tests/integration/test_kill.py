"""kill -9 at any moment: the same command goes on, repeats nothing finished, ends in the same board."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import write_tiny_recipe

KILLER = Path(__file__).parent / "killer.py"
PLACES = ("base", "sft", "reference", "align", "rename", "scoring", "board")


def start(recipe, results, home, *, kill_at="nowhere:group", marker=""):
    # the plug-in takes part in every run, because the plug-ins of a run stand in its record
    options = ["seed=0", "--results", str(results), "--jobs", "1", "--plugin", str(KILLER)]
    command = [sys.executable, "-m", "halobench", "run", str(recipe), *options]
    killing = {"KILL_AT": kill_at, "KILL_MARKER": str(marker)}
    environment = {**os.environ, "HALOBENCH_HOME": str(home), **killing}
    log = home.with_suffix(".log").open("a")
    with log:
        return subprocess.Popen(
            command,
            env=environment,
            start_new_session=True,
            # a suite that runs in the background of a shell ignores interrupts, and so would its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            stdout=log,
            stderr=log,
        )


def wait_for_group_to_end(pid):
    """The workers of a killed parent must notice and end."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"processes of group {pid} outlive their killed parent")


def finished(results, home):
    """What must not be done again: when each run and each stage was finished."""
    files = [*results.glob("runs/[!.]*/run.json"), *home.glob("stages/[!.]*/config.json")]
    return {file: file.stat().st_mtime_ns for file in files}


def board(results):
    folder = results / "leaderboard"
    # measured times reach cost.csv and the figure of costs, and nothing else
    files = (path for path in folder.rglob("*") if path.is_file() and not path.stem.endswith("cost"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run_to_the_end(recipe, results, home):
    process = start(recipe, results, home)
    assert process.wait(timeout=120) == 0
    return board(results)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The board of the same recipe, run in one go."""
    folder = tmp_path_factory.mktemp("whole")
    return run_to_the_end(write_tiny_recipe(folder), folder / "results", folder / "home")


@pytest.mark.parametrize("whom", ["group", "parent"])
def test_killed_in_every_phase_it_goes_on_to_the_same_board(tiny_recipe, tmp_path, uninterrupted, whom):
    results, home = tmp_path / "killed", tmp_path / "killed-home"
    kept = {}
    for place in PLACES:
        marker = tmp_path / f"{place}-{whom}"
        process = start(tiny_recipe, results, home, kill_at=f"{place}:{whom}", marker=marker)
        assert process.wait(timeout=120) == -signal.SIGKILL, f"was not killed in {place}"
        wait_for_group_to_end(process.pid)
        now = finished(results, home)
        assert now.items() >= kept.items(), f"something finished was done again before {place}"
        kept = now
    assert run_to_the_end(tiny_recipe, results, home) == uninterrupted
    assert finished(results, home).items() >= kept.items()
    assert not [*results.rglob(".tmp-*"), *home.rglob(".tmp-*")]


def test_killed_at_random_times_it_goes_on_to_the_same_board(tiny_recipe, tmp_path, uninterrupted):
    results, home = tmp_path / "killed", tmp_path / "killed-home"
    moments = random.Random(0)
    for _ in range(3):
        process = start(tiny_recipe, results, home)
        time.sleep(moments.uniform(4, 16))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for_group_to_end(process.pid)
    assert run_to_the_end(tiny_recipe, results, home) == uninterrupted


def test_an_interrupt_ends_the_run_and_says_how_to_go_on(tiny_recipe, tmp_path, uninterrupted):
    results, home = tmp_path / "stopped", tmp_path / "stopped-home"
    process = start(tiny_recipe, results, home)
    while not [*home.glob("stages/base-*")]:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    wait_for_group_to_end(process.pid)
    told = home.with_suffix(".log").read_text()
    assert f"halobench run {tiny_recipe} seed=0 --results {results}" in told
    assert run_to_the_end(tiny_recipe, results, home) == uninterrupted
