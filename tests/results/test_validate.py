"""`results validate`: a good store passes, and whatever is wrong is told by file and remedy, all at once."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from halobench.cli import main
from halobench.results.migrate import migrated
from halobench.results.private import private_texts
from halobench.results.record import parse_record, record_schema
from halobench.results.store import RECORD, Store
from halobench.results.validate import validate
from tests.results.stores import SCORES, change_json, change_rows, make_run, seal, write_store

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "results")


@pytest.fixture
def folder(store):
    """The KTO run."""
    return store.run_path(make_run("kto").recipe.run_id)


def problems(store):
    return validate(store).problems


def test_a_good_store_passes_and_every_run_is_reported(store):
    told = []
    found = validate(store, lambda done, total: told.append((done, total)))
    assert (found.problems, found.num_runs, found.num_whole) == ([], 2, 0)
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_committed_runs_pass(tmp_path):
    committed, copy = Store(CHECKOUT / "results"), Store(tmp_path / "copy")
    shutil.copytree(committed.root / "promptsets", copy.root / "promptsets")
    chosen = committed.run_ids()[::15]
    for run_id in chosen:
        shutil.copytree(committed.run_path(run_id), copy.run_path(run_id))
    found = validate(copy)
    assert (found.problems, found.num_runs) == ([], len(chosen))
    assert len(chosen) > 4


def edit_record(**values):
    return lambda folder: change_json(folder / RECORD, lambda record: record.update(values))


def edit_score(**values):
    def edit(folder):
        file = folder / "scores" / f"{SCORES}.json"
        seal(folder, [json.loads(file.read_text())["scores"][0] | values])

    return edit


def edit_rows(edit):
    return lambda folder: change_rows(folder, edit)


def with_value(value):
    return edit_rows(lambda rows: rows.assign(value=[value, *rows["value"][1:]]).astype({"value": "float32"}))


def provenance(**values):
    return lambda folder: change_json(folder / RECORD, lambda r: r["provenance"].update(values))


def write(name, text="x"):
    return lambda folder: (folder / name).write_text(text)


TABLE = f"scores/{SCORES}.parquet"
FACTS = f"scores/{SCORES}.json"


@pytest.mark.parametrize(
    ("damage", "file", "told"),
    [
        (write(RECORD, "{"), RECORD, "JSONDecodeError"),
        (write(RECORD, "[]"), RECORD, "holds a list, not a record"),
        (write(RECORD, "[" * 100_000), RECORD, "is nested too deeply"),
        (lambda folder: (folder / RECORD).write_bytes(b"\xff\xfe{"), RECORD, "UnicodeDecodeError"),
        (edit_record(mood="good"), RECORD, "mood: Extra inputs"),
        (edit_record(schema_version=2), RECORD, "this halobench knows 1 to 1; a newer one reads it"),
        (edit_record(run_id="kto-s0-0123456789ab"), RECORD, "is not the name of its folder"),
        (edit_record(identity={}), RECORD, "does not end in the digest of its identity"),
        (edit_record(kind="tuning"), RECORD, "just where the prompts are dev's"),
        (edit_record(scores=[]), RECORD, "scores: are not those of its score files"),
        (edit_record(files={"../../x": "0"}), RECORD, "'../../x' is outside of the run"),
        (edit_record(files={"/etc/hosts": "0"}), RECORD, "'/etc/hosts' is outside of the run"),
        (edit_record(files={"curves.parquet": "0"}), "curves.parquet", "is missing"),
        (edit_record(reason="no /home/me/model"), RECORD, "reason: holds an absolute path"),
        (provenance(system="Linux at node7.internal"), RECORD, "provenance.system: holds a host"),
        (provenance(accelerator="hf_abcdefghijklmnopqrst"), RECORD, "provenance.accelerator: holds a token"),
        (write("notes.txt"), "notes.txt", "is no file of the run; remove it"),
        (
            write("scores/other-01234567.parquet"),
            "scores/other-01234567.parquet",
            "has no other-0123",
        ),
        (write("curves.parquet", "x" * (11 * 2**20)), "", "holds 11.0 MiB, more than 10"),
        (lambda folder: (folder / "link").symlink_to("/etc/hosts"), "link", "is a link"),
        (write(TABLE, "PAR1"), TABLE, "is the file whole?"),
        (lambda folder: (folder / TABLE).unlink(), TABLE, "is missing"),
        (write(FACTS, '{"scores": NaN}'), FACTS, "NaN is no number"),
        (edit_score(value=0.75), FACTS, "T=1 winrate = 0.75: its rows give 0.5"),
        (edit_score(value=0.500002), FACTS, "T=1 winrate = 0.500002: its rows give 0.5"),
        # the deviation of 1, 0 and .5 is .5; over the root of 3
        (edit_score(stderr=0.1), FACTS, "stderr = 0.1: its rows give 0.288675"),
        (edit_score(num_samples=4), FACTS, "num_samples = 4: it has 3 prompts"),
        (edit_score(scorer="judge"), FACTS, "is of the scorer 'judge'"),
        (edit_score(metric="joy"), FACTS, "T=1 joy: has an error, but no per-prompt rows"),
        (with_value(float("nan")), TABLE, "1 values are not finite, first in row 0"),
        (with_value(float("inf")), TABLE, "1 values are not finite"),
        (with_value(1.5), TABLE, "winrate: has values outside of 0 to 1"),
        (edit_rows(lambda rows: pd.concat([rows, rows[:1]])), TABLE, "has 1 values twice"),
        (edit_rows(lambda rows: rows[1:]), TABLE, "1 of 3 prompts are missing, 0 are of no"),
        (
            edit_rows(lambda rows: rows.replace("p000", "p9")),
            TABLE,
            "1 of 3 prompts are missing, 1 are",
        ),
        (edit_rows(lambda rows: rows.assign(decode=1)), TABLE, "must have the columns prompt_id, decode"),
        (edit_rows(lambda rows: rows.assign(decode=[["T=1"]] * 3)), TABLE, "must have the columns prompt_id"),
        (edit_rows(lambda rows: rows.drop(columns="rep")), TABLE, "must have the columns prompt_id, decode"),
    ],
)
def test_what_is_wrong_with_a_run_is_told_with_its_file(store, folder, damage, file, told):
    damage(folder)
    found = problems(store)
    assert any(line.startswith(f"{folder / file}: ") and told in line for line in found), found


def test_a_file_that_was_changed_differs_from_its_digest(store, folder):
    rows = pd.read_parquet(folder / TABLE)
    rows.assign(value=[1, 1, 1]).astype({"value": "float32"}).to_parquet(folder / TABLE, index=False)
    found = problems(store)
    assert [line for line in found if "is not what the record has the digest of; restore" in line]
    assert [line for line in found if "its rows give 1" in line]  # all at once


def test_scores_under_another_name_are_told(store, folder):
    for suffix in (".json", ".parquet"):
        (folder / "scores" / f"{SCORES}{suffix}").rename(folder / "scores" / f"oracle-ffffffff{suffix}")
    assert any("another scorer or configuration than its name says" in line for line in problems(store))


def test_prompts_that_are_nowhere_are_told(store):
    for file in store.root.glob("promptsets/*"):
        file.unlink()
    assert sum("which are not in promptsets" in line for line in problems(store)) == 2


def test_prompts_that_were_changed_are_told(store):
    [file] = store.root.glob("promptsets/*")
    pd.read_parquet(file).replace("p000", "p9").to_parquet(file)
    assert any(line.startswith(f"{file}: its prompts have the digest") for line in problems(store))


def test_runs_that_a_suite_misses_are_a_warning_with_their_rows_and_seeds(tmp_path, capsys):
    runs = [make_run(loss, seed=seed) for loss in ("kto", "dpo") for seed in (0, 1, 2)]
    store = write_store(tmp_path / "results", *runs)
    for run in runs[1:4]:
        shutil.rmtree(store.run_path(run.recipe.run_id))
    found = validate(store)
    assert found.problems == []
    [line] = found.warnings
    assert "3 of its 6 runs are not recorded (kto: seeds 1, 2; dpo: seeds 0); go on with" in line
    assert main(["results", "validate", "--results", str(store.root)]) == 0
    text = capsys.readouterr().out
    assert f"warning: {line}" in text
    assert "3 runs, all well, 1 warnings" in text


def test_runs_of_uncommitted_code_are_a_warning(store, folder):
    provenance(dirty=True)(folder)
    found = validate(store)
    assert found.problems == []
    [line] = found.warnings
    assert f"1 of 2 runs were made by code that differs from its commit ({folder.name}, ...)" in line


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda note: note.update(suite="other"), "is of the suite 'other'"),
        (lambda note: note.update(mood="good"), "mood: Extra inputs"),
        (lambda note: note["points"][0].update(seed=7), "has another setting, method or seed"),
        (lambda note: note["points"].pop(), "is not what its name is the digest of"),
    ],
)
def test_a_suite_that_was_changed_is_told(store, edit, told):
    [file] = store.root.glob("suites/*/*.json")
    change_json(file, edit)
    assert any(line.startswith(f"{file}: ") and told in line for line in problems(store))


def test_what_was_left_unfinished_is_told(store):
    (store.root / "runs" / ".tmp-1-kto").mkdir()
    (store.root / "runs" / "half").mkdir()
    assert [re.sub(r".*/", "", line) for line in problems(store)] == [
        ".tmp-1-kto: was left unfinished; remove it, or let `halobench run` do so",
        "half: has no run.json, so it is no run; remove it",
    ]


def test_the_verb_says_every_problem_and_exits_with_1(store, folder, capsys):
    assert main(["results", "validate", "--results", str(store.root)]) == 0
    assert "2 runs, all well, 0 warnings; 0 scores of whole runs" in capsys.readouterr().out
    (folder / "notes.txt").write_text("x")
    (folder / "more.txt").write_text("x")
    assert main(["results", "validate", "--results", str(store.root)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["results", "validate", "--results", str(store.root / "no")]) == 2
    assert "no such results folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("/home/me/data.jsonl", "an absolute path"),
        ("failed: '/tmp/x'", "an absolute path"),
        (r"C:\Users\me", "an absolute path"),
        ("~/data", "an absolute path"),
        ("https://somewhere.org/x", "a host"),
        ("me@node7.cluster", "a host"),
        ("10.0.0.12", "a host"),
        ("hf_abcdefghijklmnopqrstuv", "a token"),
        ("sk-abcdefghijklmnopqrstuv", "a token"),
    ],
)
def test_what_belongs_to_a_machine_or_a_person_is_found_in_keys_and_values(text, kind):
    assert ("a.0", kind) in set(private_texts({"a": [text]}))
    assert (text, kind) in set(private_texts({text: 1}))


@pytest.mark.parametrize(
    "text",
    ["oracle/winrate", "org/model-7b", "2.13.0+cpu", "Linux x86_64", "NVIDIA A100", "a / b", "T=1"],
)
def test_names_versions_and_ids_are_nobody_s(text):
    assert list(private_texts({"a": text})) == []


def test_the_committed_schema_is_of_this_code():
    assert (CHECKOUT / "results" / "run.schema.json").read_text() == record_schema(), (
        "rewrite it with `halobench results schema`"
    )


def test_a_stale_schema_is_told_with_the_command_that_rewrites_it(store, capsys):
    assert main(["results", "schema", "--results", str(store.root)]) == 0
    assert problems(store) == []
    file = store.root / "run.schema.json"
    file.write_text(file.read_text().replace("integer", "number"))
    [line] = problems(store)
    assert line.endswith("rewrite it with `halobench results schema`")


def test_the_schema_says_what_a_record_must_have():
    schema = json.loads(record_schema())
    assert {"run_id", "identity", "recipe", "scores", "files"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


def test_a_record_without_a_version_is_of_the_first(folder):
    document = json.loads((folder / RECORD).read_text())
    del document["schema_version"]
    assert parse_record(json.dumps(document)) == parse_record((folder / RECORD).read_text())


def test_an_old_record_goes_through_every_migration_in_order():
    steps = {1: lambda record: {"b": record["a"] + 1}, 2: lambda record: {"c": 10 * record["b"]}}
    assert migrated({"a": 1}, steps, 3) == {"c": 20, "schema_version": 3}
    assert migrated({"b": 1, "schema_version": 2}, steps, 3) == {"c": 10, "schema_version": 3}
    assert migrated({"c": 1, "schema_version": 3}, steps, 3) == {"c": 1, "schema_version": 3}


@pytest.mark.parametrize("version", [0, 4, "1", True, None, 1.0])
def test_a_version_that_nobody_knows_is_refused(version):
    with pytest.raises(ValueError, match="this halobench knows 1 to 3"):
        migrated({"schema_version": version}, {}, 3)
