"""What is said about a file of JSON lines that cannot be used: file, line, and what was expected."""

import json

import pytest

from halobench.data.sources.jsonl import JsonLines
from halobench.errors import DataError

FINE = '{"prompt": "q", "chosen": "a", "rejected": "b"}'


def problems_of(path):
    with pytest.raises(DataError) as error:
        JsonLines.open(path=None if path is None else str(path), world_seed=0)
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            '{"prompt": "q", "completion": "a"}',
            '"desirable" is missing; expected true or false (found keys: prompt, completion)',
        ),
        (
            '{"prompt": "q", "desirable": true}',
            '"completion" is missing; expected a text (found keys: prompt, desirable)',
        ),
        (
            '{"prompt": "q", "chosen": "a"}',
            '"rejected" is missing; expected a text (found keys: prompt, chosen)',
        ),
        (
            '{"chosen": "a", "rejected": "b"}',
            '"prompt" is missing; expected a text or a list of turns (found keys: chosen, rejected)',
        ),
        ('{"prompt": "q", "completion": "a", "desirable": 1}', '"desirable" = 1; expected true or false'),
        (
            '{"prompt": "q", "completion": "a", "desirable": "yes"}',
            "\"desirable\" = 'yes'; expected true or false",
        ),
        ('{"prompt": "q", "chosen": "a", "rejected": 5}', '"rejected" = 5; expected a text'),
        ('{"prompt": "q", "chosen": null, "rejected": "b"}', '"chosen" = None; expected a text'),
        ('{"prompt": "q", "chosen": "a", "rejected": "b", "group": 3}', '"group" = 3; expected a text'),
        ('{"prompt": 3, "chosen": "a", "rejected": "b"}', '"prompt" = 3; expected a text or a list of turns'),
        (
            '{"prompt": [{"role": "bot", "content": "x"}], "chosen": "a", "rejected": "b"}',
            "\"prompt\" = [{'role': 'bot', 'content': 'x'}]; expected a text or a list of turns",
        ),
        (
            '{"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}',
            "\"prompt\" = [{'role': 'user'}]; expected a text or a list of turns",
        ),
        (
            '{"prompt": "q", "chosen": "a", "rejected": "b", "score": 1}',
            '"score" is not a key of such a row; drop it (found keys: prompt, chosen, rejected, score)',
        ),
        ("[1]", "expected an object, found list"),
        ('"text"', "expected an object, found str"),
    ],
)
def test_a_wrong_row_is_one_line_that_names_the_place(tmp_path, line, problem):
    file = tmp_path / "feedback.jsonl"
    file.write_text(f"{FINE}\n" * 16 + line + "\n")
    assert problems_of(file) == [f"{file}:17: {problem}"]


def test_a_line_that_is_not_json(tmp_path):
    file = tmp_path / "feedback.jsonl"
    file.write_text(f'{FINE}\n{{"prompt": "q", \n')
    [problem] = problems_of(file)
    assert problem.startswith(f"{file}:2: is not JSON (")


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe\x00", json.dumps({"prompt": "\ud800", "chosen": "a", "rejected": "b"}).encode()],
    ids=["not UTF-8", "half a character"],
)
def test_a_text_that_is_no_unicode(tmp_path, text):
    file = tmp_path / "feedback.jsonl"
    file.write_bytes(text)
    [problem] = problems_of(file)
    assert problem.startswith(str(file))


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file(tmp_path, text):
    file = tmp_path / "feedback.jsonl"
    file.write_text(text)
    assert problems_of(file) == [f"{file}: is empty; give one JSON object per line"]


def test_a_file_of_both_kinds(tmp_path):
    file = tmp_path / "feedback.jsonl"
    file.write_text(f'{FINE}\n{FINE}\n{{"prompt": "q", "completion": "a", "desirable": true}}\n')
    assert problems_of(file) == [
        f"{file}: mixes pairs (line 1) and single answers (line 3); give a file of one kind"
    ]


def test_missing_files(tmp_path):
    path = tmp_path / "none.jsonl"
    assert problems_of(path) == [f"data.path = {str(path)!r}: {path} does not exist"]
    (tmp_path / "train.jsonl").write_text(FINE)
    assert problems_of(tmp_path) == [
        f"data.path = {str(tmp_path)!r}: {tmp_path / 'test.jsonl'} does not exist"
    ]
    assert problems_of(None) == [
        "data.path: is missing; give a file of JSON lines, or a folder with train.jsonl"
    ]


def test_problems_of_all_files_are_told_at_once_and_many_are_abbreviated(tmp_path):
    for name, num_problems in (("train", 4), ("test", 9)):
        (tmp_path / f"{name}.jsonl").write_text("[]\n" * num_problems)
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    wanted = [f"{train}:{line}: expected an object, found list" for line in (1, 2, 3, 4)]
    wanted += [f"{test}:{line}: expected an object, found list" for line in (1, 2, 3, 4, 5, 6)]
    assert problems_of(tmp_path) == [*wanted, "... and 3 more like these"]
    test.write_text("[]\n" * 6)
    assert problems_of(tmp_path) == wanted
