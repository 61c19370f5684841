"""The verbs that write and remove files of the user's: new, clean."""

import subprocess
import sys

import pytest

from halobench.cli import main
from tests.leaderboard.synthetic import row, write_results


def test_a_new_loss_comes_with_a_test_that_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "loss", "my_margin"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:2] == ["wrote my_margin.py", "wrote test_my_margin.py"]
    assert "--plugin my_margin.py loss.name=my_margin" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_margin.py", "test_my_margin.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


@pytest.mark.parametrize("present", ["mine.py", "test_mine.py"])
def test_new_overwrites_nothing(tmp_path, monkeypatch, capsys, present):
    monkeypatch.chdir(tmp_path)
    (tmp_path / present).write_text("precious")
    assert main(["new", "loss", "mine"]) == 2
    assert capsys.readouterr().err == f"error: {present}: is there already; nothing was written\n"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(present, "precious")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("kto", "loss 'kto' exists already ("),
        ("My-Loss", "'My-Loss': give a lower-case Python name, for example hinge_kto"),
        ("lambda", "'lambda': give a lower-case Python name"),
    ],
)
def test_new_refuses_a_name_that_cannot_be_used(tmp_path, monkeypatch, capsys, name, reason):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "loss", name]) == 2
    assert capsys.readouterr().err.startswith(f"error: {reason}")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def artifacts(home):
    """A folder of artifacts with a model, logs, and results that the user keeps there."""
    for name in ("stages/base-0/weights", "logs/run.log"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_bytes(b"x" * 1_000_000)
    return home


def below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_dry_clean_tells_sizes_and_removes_nothing(artifacts, capsys):
    before = below(artifacts)
    assert main(["clean", "--dry-run"]) == 0
    assert below(artifacts) == before
    out = capsys.readouterr().out
    assert f"     1.0MB  {artifacts / 'logs'}\n     1.0MB  {artifacts / 'stages'}\n" in out
    assert out.endswith("     2.0MB  would be removed\n")


@pytest.mark.parametrize("place", ["quickstart", "mine/quickstart"])
def test_clean_removes_artifacts_and_keeps_results(artifacts, capsys, place):
    store = write_results(artifacts / place, row("kto", [[0.5, 1.0]]))
    facts = below(store.root)
    assert main(["clean"]) == 0
    assert capsys.readouterr().out.endswith("     2.0MB  was removed\n")
    assert below(artifacts) == {f"{place}/{name}" for name in facts}


def test_clean_of_nothing_is_all_well(home, capsys):
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == "     0.0MB  was removed\n"
    assert not home.exists()
