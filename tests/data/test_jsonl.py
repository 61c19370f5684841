"""Feedback of your own: what files of JSON lines may hold, and how they are divided and selected from."""

import hashlib
import json

import pytest

from halobench.data.sources.jsonl import JsonLines
from halobench.data.views import make_view
from halobench.errors import DataError
from halobench.feedback import Message


def pair(prompt, chosen="good", rejected="bad", **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def thumb(prompt, completion, desirable, **more):
    return {"prompt": prompt, "completion": completion, "desirable": desirable, **more}


def write(path, rows):
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def source(path):
    return JsonLines.open(path=str(path), world_seed=0)


def prompts(rows):
    return [row.prompt[0].content for row in rows]


def train_prompts(opened, num_pairs=None, split_seed=0):
    feedback = opened.feedback(num_pairs=num_pairs, split_seed=split_seed)
    return list(dict.fromkeys(prompts(feedback.responses.values())))


@pytest.fixture
def folder(tmp_path):
    """Six train, two dev and two test pairs."""
    for split, numbers in (("train", range(6)), ("dev", range(6, 8)), ("test", range(8, 10))):
        write(tmp_path / f"{split}.jsonl", [pair(f"q{i}", f"w{i}", f"l{i}") for i in numbers])
    return tmp_path


def test_pairs_of_a_folder(folder):
    opened = source(folder)
    feedback = opened.feedback(num_pairs=None, split_seed=0)
    assert feedback.fingerprint.num_pairs == 6
    shown = [
        (feedback.responses[p.winner].completion, feedback.responses[p.loser].completion, p.margin)
        for p in feedback.pairs
    ]
    assert shown == [(f"w{i}", f"l{i}", None) for i in range(6)]
    assert prompts(opened.prompt_set("dev").rows) == ["q6", "q7"]
    [row, _] = opened.prompt_set("test").rows
    assert (row.prompt, row.chosen, row.rejected) == ((Message("user", "q8"),), ("w8",), ("l8",))


def test_thumbs_and_the_prompts_that_can_be_scored(folder):
    rows = [thumb("a", "x", True), thumb("a", "y", False), thumb("b", "z", True), thumb("a", "w", True)]
    for name in ("train", "dev", "test"):
        write(folder / f"{name}.jsonl", [{**row, "prompt": f"{row['prompt']}-{name}"} for row in rows])
    opened = source(folder)
    feedback = opened.feedback(num_pairs=None, split_seed=0)
    assert feedback.pairs == ()
    assert [(feedback.responses[row.response_id].completion, row.desirable) for row in feedback.labels] == [
        ("x", True),
        ("y", False),
        ("z", True),
        ("w", True),
    ]
    assert feedback.fingerprint.num_prompts == 2
    # a prompt with one thumb only is compared with those of other prompts
    first, second = opened.prompt_set("test").rows
    assert prompts([first, second]) == ["a-test", "b-test"]
    assert (first.chosen, first.rejected) == (("x", "w"), ("y",))
    assert (second.chosen, second.rejected) == (("z",), ())


def test_lists_of_turns_and_blank_lines(folder):
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "why"},
    ]
    file = write(folder / "train.jsonl", [pair(turns)])
    file.write_text("\n" + file.read_text() + "  \n")
    [winner, _] = source(folder).feedback(num_pairs=None, split_seed=0).responses.values()
    assert winner.prompt == tuple(Message(turn["role"], turn["content"]) for turn in turns)


def test_text_with_unusual_line_breaks_is_one_row(folder):
    # only a line feed ends a row; JSON allows these unescaped within a text
    odd = "a\u2028b\u2029c\u0085d\x7fe"
    write(folder / "train.jsonl", [pair(odd)])
    assert train_prompts(source(folder)) == [odd]


def test_train_rows_of_a_held_out_group_are_dropped_and_counted(folder):
    write(folder / "train.jsonl", [pair("q1"), pair("q2", group="g"), pair("q8"), pair("q3"), pair("q6")])
    write(folder / "test.jsonl", [pair("q8"), pair("q9", group="g")])
    opened = source(folder)
    assert train_prompts(opened) == ["q1", "q3"]
    assert opened.feedback(num_pairs=None, split_seed=0).drops == {"group occurs in a held-out split": 3}


def test_dev_rows_of_a_test_group_are_dropped(folder):
    write(folder / "dev.jsonl", [pair("q8"), pair("q6")])
    assert prompts(source(folder).prompt_set("dev").rows) == ["q6"]


def test_rows_that_say_nothing_are_counted_by_reason(folder):
    rows = [
        pair("q", "a", "a"),
        pair("q", "", "a"),
        pair("q", "a", " \n"),
        pair("q", "a", "b"),
        pair("r", "c", "c"),
    ]
    write(folder / "train.jsonl", rows)
    feedback = source(folder).feedback(num_pairs=None, split_seed=0)
    assert feedback.fingerprint.num_pairs == 1
    assert feedback.fingerprint.drops == {"an answer is empty": 2, "both answers are the same": 2}


def test_nothing_left_to_train_on(folder):
    write(folder / "train.jsonl", [pair("q", "a", "a"), pair("q8")])
    with pytest.raises(DataError) as error:
        source(folder).check_selection(num_pairs=None)
    assert str(error.value) == (
        "there is no row to train on "
        "(dropped: 1 both answers are the same, 1 group occurs in a held-out split)"
    )


def test_smaller_selections_are_subsets_of_larger_ones_in_the_order_of_the_file(folder):
    write(folder / "train.jsonl", [pair(f"t{i}") for i in range(40)])
    opened = source(folder)
    everything = train_prompts(opened)
    assert everything == [f"t{i}" for i in range(40)]
    larger: set[str] = set(everything)
    for num_pairs in (39, 20, 7, 1):
        chosen = train_prompts(opened, num_pairs, split_seed=5)
        assert len(chosen) == num_pairs
        assert sorted(chosen, key=everything.index) == chosen
        assert set(chosen) < larger
        larger = set(chosen)
    assert train_prompts(opened, 20, split_seed=5) == train_prompts(source(folder), 20, split_seed=5)
    assert train_prompts(opened, 20, split_seed=5) != train_prompts(opened, 20, split_seed=6)


def test_too_large_a_selection_is_refused(folder):
    opened = source(folder)
    opened.check_selection(num_pairs=6)
    for ask in (opened.check_selection, lambda **k: opened.feedback(split_seed=0, **k)):
        with pytest.raises(DataError, match="7 pairs are asked for but the train split has 6; ask for fewer"):
            ask(num_pairs=7)


def split_of(group):
    """sha256 of "halobench-" and the group, mod 10,000: the first tenth is test, the second dev."""
    bucket = int(hashlib.sha256(f"halobench-{group}".encode()).hexdigest(), 16) % 10_000
    return "test" if bucket < 1000 else "dev" if bucket < 2000 else "train"


def test_a_single_file_is_divided_by_group_and_added_rows_move_no_other(tmp_path):
    rows = [pair(f"q{i}", group=f"g{i // 3}") for i in range(300)]
    file = write(tmp_path / "all.jsonl", rows)
    few = source(file)
    sides = {
        "train": train_prompts(few),
        "dev": prompts(few.prompt_set("dev").rows),
        "test": prompts(few.prompt_set("test").rows),
    }
    expected = {side: [f"q{i}" for i in range(300) if split_of(f"g{i // 3}") == side] for side in sides}
    assert sides == expected
    assert all(len(expected[side]) > 9 for side in expected)
    write(file, [pair(f"new{i}") for i in range(100)] + rows[::-1])
    more = source(file)
    assert set(sides["train"]) <= set(train_prompts(more))
    assert set(sides["test"]) <= set(prompts(more.prompt_set("test").rows))


def test_the_prompt_is_the_group_where_none_is_given(tmp_path):
    rows = [pair(f"q{i // 2}", f"w{i}", f"l{i}") for i in range(200)]
    opened = source(write(tmp_path / "all.jsonl", rows))
    feedback = opened.feedback(num_pairs=None, split_seed=0)
    trained = set(prompts(feedback.responses.values()))
    held_out = {p for split in ("dev", "test") for p in prompts(opened.prompt_set(split).rows)}
    assert not trained & held_out
    assert trained | held_out == {f"q{i}" for i in range(100)}
    assert [len(row.chosen) for row in opened.prompt_set("test").rows] == [2] * len(
        opened.prompt_set("test").rows
    )


def test_a_folder_without_dev_holds_out_a_tenth_of_train(folder):
    (folder / "dev.jsonl").unlink()
    write(folder / "train.jsonl", [pair(f"t{i}", group=f"t{i}") for i in range(200)])
    opened = source(folder)

    def is_dev(group):
        return int(hashlib.sha256(f"halobench-{group}".encode()).hexdigest(), 16) % 10_000 < 1000

    assert prompts(opened.prompt_set("dev").rows) == [f"t{i}" for i in range(200) if is_dev(f"t{i}")]
    assert train_prompts(opened) == [f"t{i}" for i in range(200) if not is_dev(f"t{i}")]
    assert prompts(opened.prompt_set("test").rows) == ["q8", "q9"]


def test_content_id_changes_with_any_byte_and_with_the_split_of_a_file(folder):
    known = source(folder).content_id
    assert source(folder).content_id == known
    write(folder / "test.jsonl", [pair("q8", "w8", "l8"), pair("q9", "w9", "l9 ")])
    assert source(folder).content_id != known
    write(folder / "test.jsonl", [pair("q8", "w8", "l8"), pair("q9", "w9", "l9")])
    (folder / "dev.jsonl").rename(folder / "elsewhere")
    (folder / "test.jsonl").rename(folder / "dev.jsonl")
    (folder / "elsewhere").rename(folder / "test.jsonl")
    assert source(folder).content_id != known


def test_native_unpaired_rows_make_unpaired_views_only(folder):
    write(folder / "train.jsonl", [thumb("q0", "x", True), thumb("q0", "y", False)])
    feedback = source(folder).feedback(num_pairs=None, split_seed=0)
    assert [row.desirable for row in make_view(feedback, "Binary").examples] == [True, False]
    with pytest.raises(DataError, match="this loss needs pairs"):
        make_view(feedback, "Pairs")


def test_a_split_without_prompts_to_judge_is_refused(folder):
    write(folder / "dev.jsonl", [thumb("q6", "x", True), thumb("q7", "y", False)])
    message = r"the dev split \(2 rows\) has no prompt with both a preferred and another answer"
    with pytest.raises(DataError, match=message):
        source(folder).prompt_set("dev")


def test_a_held_out_split_whose_answers_all_have_one_label_is_refused(folder):
    write(folder / "train.jsonl", [thumb("q0", "x", True), thumb("q0", "y", False)])
    write(folder / "dev.jsonl", [thumb("q6", "x", True), thumb("q7", "y", True)])
    write(folder / "test.jsonl", [thumb("q8", "x", True), thumb("q9", "y", False)])
    opened = source(folder)
    assert len(opened.prompt_set("test").rows) == 2
    with pytest.raises(DataError, match=r"the dev split \(2 rows\) all have the same label"):
        opened.prompt_set("dev")
