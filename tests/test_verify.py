"""`results verify`: a run is made again from its record alone, and what differs is told."""

import json

import pytest

from halobench.cli import main
from halobench.results.journal import VERIFICATIONS
from halobench.results.record import ScoreRecord
from halobench.results.store import RECORD, Store
from halobench.results.validate import validate
from halobench.verify import compare
from tests.results.stores import change_json, make_run, write_store


@pytest.fixture
def verified(tiny_recipe, tmp_path, capsys):
    """A recorded run of the built-in world, and what verifying it gives."""
    results = tmp_path / "results"
    asked = ["loss.name=dpo", "seed=0", "--jobs", "0"]
    assert main(["run", str(tiny_recipe), *asked, "--results", str(results)]) == 0
    store = Store(results)
    [run_id] = [name for name in store.run_ids() if name.startswith("dpo")]

    def verify(*arguments):
        capsys.readouterr()
        code = main(["results", "verify", run_id, *arguments, "--results", str(results)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return store, run_id, verify


def test_a_run_is_verified_from_its_record_alone(verified, tiny_recipe):
    store, run_id, verify = verified
    assert validate(store).problems == []  # what a run records passes
    tiny_recipe.unlink()
    before = (store.run_path(run_id) / RECORD).read_bytes()
    code, text, _ = verify()
    assert code == 0
    assert f"{run_id}: agrees; 0 of " in text
    assert "not made again: base-" in text
    assert "run otherwise" not in text
    [line] = (store.root / VERIFICATIONS).read_text().splitlines()
    fact = json.loads(line)
    assert (fact["run_id"], fact["agrees"], fact["largest"]) == (run_id, True, 0.0)
    assert (store.run_path(run_id) / RECORD).read_bytes() == before
    assert validate(store).problems == []

    # a score that somebody polished
    honest = store.record(run_id).scores[1].value
    change_json(store.run_path(run_id) / RECORD, lambda r: r["scores"][1].update(value=0.9))
    code, text, _ = verify()
    assert code == 1
    assert "0.9 recorded, " in text
    assert "DIFFERS; 1 of " in text
    assert [json.loads(fact)["agrees"] for fact in (store.root / VERIFICATIONS).read_text().splitlines()] == [
        True,
        False,
    ]
    assert verify("--tolerance", "99")[0] == 0

    # the same run by another path of computation: said, and no difference of more than rounding
    change_json(store.run_path(run_id) / RECORD, lambda r: r["scores"][1].update(value=honest))
    code, text, _ = verify("execution.hot_path=reference")
    assert code == 0, text
    assert (
        "run otherwise, which may change last digits: execution.hot_path: fused recorded, reference now"
        in text
    )

    # overrides that make it another run, or none
    code, _, errors = verify("loss.beta=0.7")
    assert code == 2
    assert "its recipe is another run here, dpo-s0-" in errors
    code, _, errors = verify("data.pth=x")
    assert code == 2
    assert "data.pth" in errors
    assert verify("--tolerance", "nan")[0] == 2
    assert len((store.root / VERIFICATIONS).read_text().splitlines()) == 4


def with_score(record, value, metric="winrate"):
    score = ScoreRecord(
        scorer="oracle",
        task="T=1",
        metric=metric,
        value=value,
        stderr=None,
        num_samples=3,
        higher_is_better=True,
    )
    return record.model_copy(update={"scores": (score,)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: with_score(r, 0.53), ["oracle T=1 winrate: 0.5 recorded, 0.53 now"]),
        (lambda r: with_score(r, 0.5, "joy"), ["scores: none of those recorded came out"]),
        (lambda r: r.model_copy(update={"status": "diverged"}), ["status: completed recorded, diverged now"]),
        (
            lambda r: r.model_copy(update={"data": r.data.model_copy(update={"sha256": "other"})}),
            ["data: it was trained on other feedback than recorded"],
        ),
        (lambda r: with_score(r, 0.515), []),
    ],
)
def test_what_differs_is_told(tmp_path, change, told):
    run = make_run("kto")
    record = with_score(write_store(tmp_path, run).record(run.recipe.run_id), 0.5)
    found = compare(record, change(record), 0.02, [])
    assert found.differences == told
    assert found.line.agrees is (told == [])
