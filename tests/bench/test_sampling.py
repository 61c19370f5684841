"""The benchmark of sampling: the same texts, and what is written down of their cost."""

import json

import pytest

from halobench.bench import __main__ as training
from halobench.bench import sampling
from halobench.bench.workload import EOS
from halobench.errors import TrainingError

PROMPTS = [(1, 20, 30), (1, 40), (1, 50, 60, 70, 80)]


@pytest.fixture(autouse=True)
def short_texts(monkeypatch):
    monkeypatch.setattr(sampling, "_LONGEST", 12)
    monkeypatch.setattr(sampling, "_MEAN_LENGTH", 8)
    monkeypatch.setattr(sampling, "_NUM_PROMPTS", 6)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_both_write_the_same_texts(batch):
    model = sampling.make_model("tiny", "cpu")
    texts = sampling.write_with_halobench(model, PROMPTS)
    assert sampling.write_with_transformers(model, PROMPTS, batch=batch) == texts
    assert len({tuple(text) for text in texts}) == 3
    assert all(len(text) == 12 or text[-1] == EOS for text in texts)


def test_texts_end_as_often_as_they_are_meant_to():
    texts = sampling.write_with_halobench(sampling.make_model("tiny", "cpu"), [(1, n) for n in range(3, 303)])
    drawn = sum(map(len, texts))
    ended = sum(text[-1] == EOS for text in texts)
    assert drawn > 1500
    assert ended / drawn == pytest.approx(1 / 8, rel=0.2)


def test_the_record_says_how_long_everybody_took(tmp_path, capsys):
    assert sampling.main(["--model", "tiny", "--rounds", "2", "--results", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench" / "sampling-tiny-fp32.json").read_text())
    assert record["texts"] == 6
    assert set(record["contestants"]) == {"halobench", "transformers-16", "transformers-32"}
    for row in record["contestants"].values():
        speeds = sorted(record["tokens"] / seconds for seconds in row["seconds"])
        assert [row["tokens_per_second"][key] for key in ("low", "high")] == pytest.approx(speeds)
    assert record["contestants"]["halobench"]["times_as_long_as_halobench"]["median"] == 1
    assert "transformers-16" in capsys.readouterr().out


def test_other_texts_are_no_comparison(monkeypatch):
    monkeypatch.setattr(
        sampling, "write_with_transformers", lambda model, prompts, batch: [[7]] * len(prompts)
    )
    with pytest.raises(TrainingError, match="transformers-16 wrote 6 of 6 texts otherwise"):
        sampling.compete("tiny", 1, "cpu")


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
@pytest.mark.parametrize("main", [sampling.main, training.main])
def test_no_rounds_are_refused(main, rounds, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["--rounds", rounds])
    assert refused.value.code == 2
    assert "--rounds" in capsys.readouterr().err.splitlines()[-1]
