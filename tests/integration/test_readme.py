"""Every command and program of the README does what it says, on a suite that takes seconds."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import halobench as hb

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands(program):
    """Command lines of the README that call a program, comments aside, in order."""
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.split()[:1] == [program]]


def shrunk(line, recipe):
    """The same command on the tiny recipe, in one worker."""
    words = [str(recipe) if word == "quickstart" else word for word in shlex.split(line)]
    return words + (["--jobs", "1"] if words[1] == "run" else [])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the README's plug-in in it."""
    [plugin] = [block for block in blocks("python") if "register_loss" in block]
    (tmp_path / "hinge_kto.py").write_text(plugin)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_of_the_readme_run_one_after_the_other(folder, tiny_recipe):
    lines = [line for line in commands("halobench") if "FOLDER" not in line]
    assert len(lines) == 6  # as many as the README has; what it gains is run here too
    for line in lines:
        done = subprocess.run(
            [sys.executable, "-m", *shrunk(line, tiny_recipe)], capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (folder / "try" / "leaderboard" / "index.html").is_file()
    assert "hinge_kto" in (folder / "leaderboard" / "leaderboard.csv").read_text()


def test_python_program_of_the_readme_runs(folder, tiny_recipe):
    [program] = [block for block in blocks("python") if "hb.run" in block]
    program = program.replace('"quickstart"', f'"{tiny_recipe}"').replace(
        '["seed=0"]', '["seed=0", "loss=dpo"]'
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nprint(len(scores), sorted(board.row))"],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "['dpo', 'reference']" in done.stdout


def test_make_targets_of_the_readme_exist():
    targets = {line.split()[1] for line in commands("make")}
    assert targets == {"quickstart", "test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}: setup\n" in makefile for target in targets)


def test_rows_that_the_readme_shows_are_rows_that_can_be_read(tmp_path):
    [block] = blocks("json")
    source = hb.SOURCES["jsonl"]
    for kind, row in zip(("paired", "unpaired"), block.splitlines(), strict=True):
        file = tmp_path / f"{kind}.jsonl"
        file.write_text(row + "\n")
        source.open(path=str(file), world_seed=0)


def test_picture_of_the_readme_is_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file()


def test_real_feedback_study_of_the_readme_is_valid(shared_data):
    from halobench.compose import compose

    [line] = [line for line in commands("halobench") if "FOLDER" in line]
    given = {
        "FOLDER": shared_data / "hh-rlhf",
        "FILE": shared_data / "tokenizers/torchtune-tiny/tokenizer.json",
    }
    for word, path in given.items():
        line = line.replace(word, str(path))
    _, _, recipe, *overrides = shlex.split(line)
    suite = compose(recipe, overrides)
    assert {r.loss["name"] for r in suite.recipes} == {"csft", "dpo", "kto", "offline_ppo", "sft", "slic"}
    assert {r.seed for r in suite.recipes} == {0, 1, 2}
