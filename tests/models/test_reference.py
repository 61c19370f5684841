"""The reference cache: right, computed once, and never another model's."""

import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from halobench.models import logprobs, reference
from halobench.models.logprobs import ScoredModel
from halobench.storage import Artifacts
from tests.models.tiny import logps_by_hand, random_row, tiny_llama


@pytest.fixture
def rows():
    stream = random.Random(1)
    return [random_row(stream, *lengths) for lengths in [(3, 6), (8, 1), (2, 4), (5, 5), (1, 2)]]


@pytest.fixture
def folder(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "artifacts")


def attach(rows, folder, artifacts, precision="64-true", **kwargs):
    """The rows with their values."""
    values, starts = reference.reference_logps(rows, folder, artifacts, precision=precision, **kwargs)
    return [
        row._replace(reference=values[start : start + len(row.completion)])
        for row, start in zip(rows, starts, strict=True)
    ]


def refuse(*args, **kwargs):
    raise AssertionError("the model was asked again")


def test_every_row_gets_the_log_probabilities_of_its_own_completion(rows, folder, artifacts):
    found = attach(rows, folder, artifacts)
    for row, scored in zip(rows, found, strict=True):
        assert scored._replace(reference=None) == row
        assert scored.reference.dtype == np.float32
        expected = logps_by_hand(tiny_llama(), row).detach().numpy()
        np.testing.assert_allclose(scored.reference, expected, rtol=1e-6)


def test_the_model_is_asked_once(rows, folder, artifacts, monkeypatch):
    first = attach(rows, folder, artifacts)
    monkeypatch.setattr(reference, "score_rows", refuse)
    again = attach(rows, folder, artifacts)
    assert [row.reference.tolist() for row in again] == [row.reference.tolist() for row in first]


@pytest.mark.parametrize("change", ["weights", "prompt", "completion", "precision"])
def test_other_weights_tokens_or_precision_are_another_artifact(change, rows, folder, artifacts, monkeypatch):
    attach(rows, folder, artifacts)
    precision = "64-true"
    if change == "weights":
        tiny_llama(seed=1).save_pretrained(folder)
    elif change == "precision":
        precision = "32-true"
    else:
        tokens = getattr(rows[2], change)
        rows[2] = rows[2]._replace(**{change: (1 + tokens[0] % 39, *tokens[1:])})
    monkeypatch.setattr(reference, "score_rows", refuse)
    with pytest.raises(AssertionError, match="asked again"):
        attach(rows, folder, artifacts, precision)


def test_a_token_that_moves_from_prompt_to_completion_is_another_artifact(
    rows, folder, artifacts, monkeypatch
):
    attach(rows, folder, artifacts)
    row = rows[0]
    rows[0] = row._replace(prompt=row.prompt[:-1], completion=(row.prompt[-1], *row.completion))
    monkeypatch.setattr(reference, "score_rows", refuse)
    with pytest.raises(AssertionError, match="asked again"):
        attach(rows, folder, artifacts)


def test_scores_do_not_depend_on_batching(rows, monkeypatch):
    model = ScoredModel(tiny_llama())
    together = reference.score_rows(model, rows)
    monkeypatch.setattr(logprobs, "_BATCH_TOKENS", 12)  # two short rows at once, the longer ones alone
    apart = reference.score_rows(model, rows)
    for row, first, second in zip(rows, together, apart, strict=True):
        assert first.shape == second.shape == (len(row.completion),)
        np.testing.assert_allclose(first, second, rtol=1e-6)


def test_progress_ends_at_the_number_of_rows(rows, folder, artifacts):
    told = []
    attach(rows, folder, artifacts, report=lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)


def test_the_cache_of_a_float32_model_keeps_what_the_model_said_exactly(rows, folder, artifacts):
    model = ScoredModel(tiny_llama(dtype=torch.float32))
    expected = [values.tolist() for values in reference.score_rows(model, rows)]
    assert [row.reference.tolist() for row in attach(rows, folder, artifacts, "32-true")] == expected


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "lost", "unsigned"])
def test_damaged_values_are_made_again(damage, rows, folder, artifacts):
    expected = [row.reference.tolist() for row in attach(rows, folder, artifacts)]
    [file] = artifacts.root.glob("reference/*/logps.npy")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    match damage:
        case "flipped bit":
            file.write_bytes(content)
        case "truncated":
            file.write_bytes(content[:-8])
        case "lost":
            file.unlink()
        case "unsigned":
            file.with_name("sha256").unlink()
    assert [row.reference.tolist() for row in attach(rows, folder, artifacts)] == expected
    assert file.with_name("sha256").is_file()


def test_two_processes_that_build_one_entry_get_the_same_values(rows, folder, tmp_path):
    program = (
        "import sys, pickle, pathlib\n"
        "from halobench.models.reference import reference_logps\n"
        "from halobench.storage import Artifacts\n"
        "rows, folder, root = pickle.load(open(sys.argv[1], 'rb'))\n"
        "values, starts = reference_logps(rows, folder, Artifacts(root), precision='64-true')\n"
        "print(values.tolist(), starts.tolist())\n"
    )
    job = tmp_path / "job.pickle"
    job.write_bytes(pickle.dumps((rows, folder, tmp_path / "shared")))
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(job)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate(timeout=120)[0] for process in processes)
    assert first == second != ""
    assert len(list((tmp_path / "shared").glob("reference/*/logps.npy"))) == 1
