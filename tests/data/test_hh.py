"""HH-RLHF: turns by their markers, unusable rows counted by reason, no first turn on both sides."""

import gzip
import hashlib
import json
from collections import Counter

import pytest

from halobench.data.sources.hh import HH
from halobench.errors import DataError
from halobench.feedback import Message


def talk(*turns):
    """A transcript: Human first, then in turn."""
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[i % 2]}: {text}" for i, text in enumerate(turns))


def parse(chosen, rejected):
    """The parsed row, or the reason why it was dropped."""
    drops, problems = Counter(), []
    rows = list(HH.parse([{"chosen": chosen, "rejected": rejected}], "train", drops, problems))
    assert not problems
    return rows[0] if rows else next(iter(drops))


def test_turns_are_told_apart_by_their_markers():
    row = parse(talk("hi ", "what?", "a joke", "no"), talk("hi", "what?", "a joke", " yes "))
    assert row.winner.prompt == (
        Message("user", "hi"),
        Message("assistant", "what?"),
        Message("user", "a joke"),
    )
    assert row.loser.prompt == row.winner.prompt
    assert (row.winner.completion, row.loser.completion) == ("no", "yes")


def test_roles_come_from_the_marker_and_not_from_the_place():
    double = "\n\nHuman: one\n\nHuman: two\n\nAssistant: three\n\nAssistant: "
    row = parse(f"{double}four", f"{double}five")
    assert [turn.role for turn in row.winner.prompt] == ["user", "user", "assistant"]
    assert row.winner.completion == "four"


def test_a_marker_that_is_quoted_within_a_turn_is_text():
    quoted = "Human: hi\nAssistant: ho, and Human: again"
    row = parse(talk(quoted, "four"), talk(quoted, f"so\nHuman: {quoted}"))
    assert row.winner.prompt == (Message("user", quoted),)
    assert row.loser.completion == f"so\nHuman: {quoted}"


def test_a_turn_may_have_paragraphs():
    row = parse(talk("hi", "one\n\ntwo"), talk("hi", "three\n\nHuman beings"))
    assert (row.winner.completion, row.loser.completion) == ("one\n\ntwo", "three\n\nHuman beings")


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (talk("hi", "yes"), talk("hi", "yes"), "both answers are the same"),
        (talk("hi", "yes"), talk("hi", "yes "), "both answers are the same"),
        (talk("hi", ""), talk("hi", "yes"), "an answer is empty"),
        (talk("hi", "yes"), talk("hi", " \n"), "an answer is empty"),
        (talk("hi", "yes"), talk("ho", "no"), "the prompts of the two sides differ"),
        (talk("hi", "a", "b", "yes"), talk("hi", "no"), "the prompts of the two sides differ"),
        (talk("hi", "yes"), talk("hi", "no", "why"), "the last turn is not the Assistant's"),
        ("yes", talk("hi", "no"), "the last turn is not the Assistant's"),
        ("\n\nAssistant: yes", "\n\nAssistant: no", "there is no prompt"),
    ],
)
def test_unusable_rows_are_dropped_for_a_reason(chosen, rejected, reason):
    assert parse(chosen, rejected) == reason
    if reason not in ("an answer is empty", "the prompts of the two sides differ"):
        return
    assert parse(rejected, chosen) == reason  # whichever side it is


def test_the_group_is_the_first_human_turn_whatever_its_spelling():
    groups = [
        parse(talk(first, "yes"), talk(first, "no")).group_id
        for first in ("Hi  there", "hi there ", "hi, there")
    ]
    assert groups[0] == groups[1] != groups[2]
    later = parse(talk("hi there", "what", "x", "yes"), talk("hi there", "what", "x", "no"))
    assert later.group_id == groups[0]


def write(folder, split, rows):
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps({"chosen": c, "rejected": r}) + "\n" for c, r in rows)
    with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
        file.write(lines)


def question(text):
    return talk(text, "yes"), talk(text, "no")


def test_train_rows_whose_group_occurs_in_test_are_dropped(tmp_path):
    base = tmp_path / "helpful-base"
    write(base, "train", [question(f"q{i}") for i in range(100)] + [(talk("x", "a"), talk("x", "a"))])
    # a first turn of train, and the same with another ending
    leaked = [question("Q3 "), (talk("q5", "hm", "go on", "yes"), talk("q5", "hm", "go on", "no"))]
    write(base, "test", [*leaked, question("new"), (talk("y", ""), talk("y", "no"))])
    source = HH.open(path=str(tmp_path), world_seed=0)

    def bucket(text):
        group = hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]
        return int(hashlib.sha256(f"halobench-{group}".encode()).hexdigest(), 16) % 10_000

    held_out = [f"q{i}" for i in range(100) if i not in (3, 5) and bucket(f"q{i}") < 1000]
    feedback = source.feedback(num_pairs=None, split_seed=0)
    trained = list(dict.fromkeys(row.prompt[0].content for row in feedback.responses.values()))
    assert [row.prompt[0].content for row in source.prompt_set("dev").rows] == held_out
    assert trained == [f"q{i}" for i in range(100) if i not in (3, 5) and f"q{i}" not in held_out]
    assert len(source.prompt_set("test").rows) == 3
    assert bucket("q3") >= 1000  # so both are lost to the train split, and not to dev
    assert bucket("q5") >= 1000
    # the drops are those of the rows to train on
    assert feedback.drops == {"both answers are the same": 1, "group occurs in a held-out split": 2}


def test_without_a_test_file_rows_are_held_out_by_their_group(tmp_path):
    write(tmp_path / "x", "train", [question(f"q{i}") for i in range(200)])
    source = HH.open(path=str(tmp_path), world_seed=0)
    held_out = [source.prompt_set(split).rows for split in ("dev", "test")]
    trained = source.feedback(num_pairs=None, split_seed=0).fingerprint.num_prompts
    assert sum(map(len, held_out)) + trained == 200
    assert all(8 < len(rows) < 34 for rows in held_out)  # a tenth each


def test_rows_of_another_schema_are_refused(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"prompt": "q", "answer": "a"}\n')
    with pytest.raises(DataError, match="chosen"):
        HH.open(path=str(tmp_path), world_seed=0)


# Rows, identical sides, empty answers, differing prompts: shared/data/README.md
ROUGH_EDGES = [
    ("helpful-base/train", 1200, 1, 2, 7),
    ("helpful-base/test", 300, 0, 1, 2),
    ("harmless-base/train", 1200, 0, 4, 0),
    ("harmless-base/test", 300, 0, 0, 1),
]


def real_rows(shared_data, name):
    with gzip.open(shared_data / "hh-rlhf" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(("name", "num_rows", "same", "empty", "differ"), ROUGH_EDGES)
def test_rough_edges_of_the_real_files(shared_data, name, num_rows, same, empty, differ):
    raw = real_rows(shared_data, name)
    drops = Counter()
    rows = list(HH.parse(raw, "train", drops, []))
    expected = {
        "both answers are the same": same,
        "an answer is empty": empty,
        "the prompts of the two sides differ": differ,
    }
    assert len(raw) == num_rows
    assert drops == {reason: count for reason, count in expected.items() if count}
    assert len(rows) == num_rows - same - empty - differ


# 17 and 15: shared/data/README.md. Of their rows 12 and 13 fall into train (measured), the others into dev.
@pytest.mark.parametrize(
    ("name", "num_leaked", "num_dropped"), [("helpful-base", 17, 12), ("harmless-base", 15, 13)]
)
def test_first_turns_that_real_train_and_test_share_are_kept_apart(
    shared_data, name, num_leaked, num_dropped
):
    def first_turns(split):
        firsts = {}
        for raw in real_rows(shared_data, f"{name}/{split}"):
            first = raw["chosen"].split("\n\nHuman:")[1].split("\n\nAssistant:")[0]
            firsts.setdefault(" ".join(first.lower().split()), []).append(raw)
        return firsts

    train, test = first_turns("train"), first_turns("test")
    shared = train.keys() & test.keys()
    assert len(shared) == num_leaked
    source = HH.open(path=str(shared_data / "hh-rlhf" / name), world_seed=0)
    feedback = source.feedback(num_pairs=None, split_seed=0)

    def firsts_of(rows):
        return {" ".join(row.prompt[0].content.lower().split()) for row in rows}

    trained = firsts_of(feedback.responses.values())
    dev, held_out = (firsts_of(source.prompt_set(split).rows) for split in ("dev", "test"))
    assert not trained & shared
    assert not dev & shared
    assert not trained & dev
    assert held_out <= test.keys()
    assert len(trained) > 900
    assert feedback.drops["group occurs in a held-out split"] == num_dropped
