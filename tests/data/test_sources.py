"""Sources of published data sets: the native schema of each, what is dropped, what is refused."""

import gzip
import json
from collections import Counter

import pytest
from datasets import Dataset, DatasetDict

from halobench.data.sources.published import PublishedSource
from halobench.errors import DataError
from halobench.feedback import Message
from halobench.registry import SOURCES

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


def message(role, content):
    return {"role": role, "content": content}


def parse(name, *records, split="train"):
    """(rows, drops) of some records."""
    drops, problems = Counter(), []
    rows = list(SOURCES[name].parse(records, split, drops, problems))
    assert problems == []
    return rows, {reason: count for reason, count in drops.items() if count}


def pairs(rows):
    return [(row.winner.completion, row.loser.completion) for row in rows]


ASKED = [message(USER, "q")]
H4 = {
    "prompt": "q",
    "prompt_id": "x",
    "chosen": [*ASKED, message(ASSISTANT, "good")],
    "rejected": [*ASKED, message(ASSISTANT, "bad")],
    "messages": [],
    "score_chosen": 8.0,
    "score_rejected": 6.5,
}
ARGILLA = {
    "source": "evol_instruct",
    "prompt": "q",
    "chosen": H4["chosen"],
    "chosen-rating": 4.5,
    "chosen-model": "m",
    "rejected": H4["rejected"],
    "rejected-rating": 2,
    "rejected-model": "n",
}
TEXTS = {
    "prompt": "q",
    "chosen": "good",
    "rejected": "bad",
    "metadata": {"score_chosen": "8", "score_rejected": 6},
}


@pytest.mark.parametrize(
    ("record", "scores"), [(H4, (8.0, 6.5)), (ARGILLA, (4.5, 2.0)), (TEXTS, (8.0, 6.0))], ids=lambda v: ""
)
@pytest.mark.parametrize("name", ["ultrafeedback", "trl"])
def test_ultrafeedback_in_its_three_forms(name, record, scores):
    ([row], drops) = parse(name, record)
    assert row.winner.prompt == row.loser.prompt == (Message(USER, "q"),)
    assert pairs([row]) == [("good", "bad")]
    assert (row.winner.score, row.loser.score) == scores
    assert drops == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score_rejected": 8.0}, "the two sides have the same score"),
        ({"score_rejected": 9.0}, "the scores contradict the preference"),
        ({"rejected": [*ASKED, message(ASSISTANT, "good ")]}, "both answers are the same"),
        ({"rejected": [*ASKED, message(ASSISTANT, " \n")]}, "an answer is empty"),
        (
            {"rejected": [message(USER, "p"), message(ASSISTANT, "bad")]},
            "the prompts of the two sides differ",
        ),
        ({"rejected": ASKED}, "the last turn is not the assistant's"),
        (
            {"chosen": H4["chosen"][1:], "rejected": H4["rejected"][1:], "prompt": []},
            "there is no prompt",
        ),
    ],
)
def test_pairs_that_cannot_be_used_are_dropped_for_a_reason(change, reason):
    assert parse("ultrafeedback", {**H4, **change}) == ([], {reason: 1})


def test_identical_sides_are_that_even_where_their_scores_tie():
    same = {**TEXTS, "rejected": "good", "metadata": {"score_chosen": 7, "score_rejected": 7}}
    assert parse("ultrafeedback", same) == ([], {"both answers are the same": 1})


def test_turns_before_the_answer_are_the_prompt():
    before = [message(SYSTEM, "s"), message(USER, "a"), message(ASSISTANT, "b"), message(USER, "c")]
    expected = tuple(Message(**turn) for turn in before)
    sides = {"chosen": message(ASSISTANT, "good"), "rejected": message(ASSISTANT, "bad")}
    repeated = {key: [*before, turn] for key, turn in sides.items()}
    explicit = {"prompt": before, **{key: [turn] for key, turn in sides.items()}}
    for record in (repeated, explicit):
        ([row], _) = parse("trl", record)
        assert row.winner.prompt == expected
        assert pairs([row]) == [("good", "bad")]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": ASKED, "completion": [message(ASSISTANT, "a")], "label": True},
        {"prompt": "q", "completion": "a", "label": 1},
        {"messages": [*ASKED, message(ASSISTANT, "a")], "label": "true"},
    ],
)
@pytest.mark.parametrize("name", ["kto_mix", "trl"])
def test_single_answers_keep_their_label(name, record):
    for label, desirable in ((record["label"], True), (False, False), ("0", False)):
        ([row], drops) = parse(name, {**record, "label": label})
        assert row.loser is None
        assert row.desirable is desirable
        assert (row.winner.prompt, row.winner.completion) == ((Message(USER, "q"),), "a")
        assert drops == {}


def test_sharegpt_conversations():
    record = {
        "conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    }
    ([row], _) = parse("sharegpt", record)
    assert row.winner.prompt == (Message(SYSTEM, "s"), Message(USER, "q"))
    assert pairs([row]) == [("good", "bad")]


def post(post_id, score_a, score_b, labels, ref="x"):
    return {
        "post_id": post_id,
        "history": f"history of {post_id}",
        "human_ref_A": f"A{ref}",
        "human_ref_B": f"B{ref}",
        "score_A": score_a,
        "score_B": score_b,
        "labels": labels,
        "score_ratio": 0.0,
    }


def test_shp_takes_clear_preferences_and_at_most_five_of_a_post_to_train_on():
    clear = [post("p", 10, 4 - n % 2, 1, n) for n in range(8)]
    records = [*clear, post("q", 3, 7, 0), post("r", 10, 6, 1)]
    rows, drops = parse("shp", *records)
    assert pairs(rows)[-1] == ("Bx", "Ax")
    assert (rows[-1].winner.score, rows[-1].loser.score) == (7, 3)
    assert rows[-1].group_id == "q"
    assert len(rows) == 5 + 1
    assert drops == {
        "the post has more pairs than are taken": 3,
        "the scores differ by less than half": 1,
    }
    taken = [row.winner.completion for row in rows[:5]]
    assert taken == sorted(taken)
    assert taken != ["A0", "A1", "A2", "A3", "A4"]  # by a permutation of the post's own
    assert parse("shp", *records[::-1])[1] == drops
    everything, drops = parse("shp", *records, split="test")
    assert (len(everything), drops) == (10, {})


def rated(prompt, text, helpfulness):
    scales = dict.fromkeys(["correctness", "coherence", "complexity", "verbosity"], 2)
    return {"prompt": prompt, "response": text, "helpfulness": helpfulness, **scales}


def test_helpsteer2_pairs_the_two_answers_to_a_prompt():
    multi = "one\n<extra_id_1>Assistant\ntwo\n<extra_id_1>User\nthree\n<extra_id_1>Assistant\n"
    rows, drops = parse(
        "helpsteer2",
        *(rated("q", "good", 4), rated("q", "bad", 1)),
        *(rated("t", "a", 3), rated("t", "b", 3)),
        *(rated(multi, "worse", 0), rated(multi, "better", 2)),
        rated("alone", "a", 3),
    )
    assert pairs(rows) == [("good", "bad"), ("better", "worse")]
    assert rows[1].winner.prompt == (Message(USER, "one"), Message(ASSISTANT, "two"), Message(USER, "three"))
    assert drops == {"the answers have the same score": 1, "the prompt has one answer": 1}


def test_safe_rlhf_has_two_preferences():
    record = {
        "prompt": "q",
        "response_0": "helpful",
        "response_1": "safe",
        "better_response_id": 0,
        "safer_response_id": 1,
    }
    assert pairs(parse("safe_rlhf", record)[0]) == [("helpful", "safe")]
    assert pairs(parse("safe_rlhf_harmless", record)[0]) == [("safe", "helpful")]


def four_aspects(*ratings):
    names = ["instruction_following", "honesty", "truthfulness", "helpfulness"]
    return {name: {"Rating": rating} for name, rating in zip(names, ratings, strict=True)}


def test_ultrafeedback_ratings_pair_the_best_with_the_worst():
    completions = [
        {"response": "middling", "annotations": four_aspects("3", "3", "3", "3"), "overall_score": 10.0},
        {"response": "worst", "annotations": four_aspects("1", "N/A", "2", "3")},
        {"response": "best", "annotations": four_aspects("5", "N/A", "N/A", "4")},
        {"response": "unrated", "annotations": four_aspects(*["N/A"] * 4)},
    ]
    rows, drops = parse("ultrafeedback_ratings", {"instruction": "q", "completions": completions})
    assert pairs(rows) == [("best", "worst")]
    assert (rows[0].winner.score, rows[0].loser.score) == (4.5, 2.0)
    assert drops == {"an answer has no rating": 1}


def reply(message_id, text, rank=None, lang="en", replies=(), role="assistant"):
    return {
        "message_id": message_id,
        "role": role,
        "text": text,
        "rank": rank,
        "lang": lang,
        "replies": list(replies),
    }


TREE = {
    "message_tree_id": "t",
    "prompt": reply(
        "t",
        "q",
        role="prompter",
        replies=[
            reply("c", "third", 2),
            reply(
                "a",
                "first",
                0,
                replies=[
                    reply("f", "again", role="prompter", replies=[reply("y", "no", 1), reply("x", "yes", 0)])
                ],
            ),
            reply("b", "second", 1),
            reply("u", "unranked"),
            reply("d", "deutsch", 3, lang="de"),
        ],
    ),
}


def flatten(node, parent=None):
    flat = {key: value for key, value in node.items() if key != "replies"}
    yield {**flat, "parent_id": parent, "message_tree_id": "t"}
    for child in node["replies"]:
        yield from flatten(child, node["message_id"])


@pytest.mark.parametrize("records", [[TREE], list(flatten(TREE["prompt"]))[::-1]], ids=["tree", "flat"])
def test_oasst_pairs_neighbours_in_rank_under_every_message(records):
    rows, drops = parse("oasst", *records)
    assert sorted(pairs(rows)) == [("first", "second"), ("second", "third"), ("yes", "no")]
    assert {row.group_id for row in rows} == {"t"}
    assert drops == {"a reply without a rank": 1}
    [deeper] = [row for row in rows if row.winner.completion == "yes"]
    assert deeper.winner.prompt == (Message(USER, "q"), Message(ASSISTANT, "first"), Message(USER, "again"))


@pytest.mark.parametrize(("rule", "num_pairs"), [("adjacent", 249), ("all", 446), ("best_vs_worst", 122)])
def test_real_trees_are_paired_by_the_rule(shared_data, rule, num_pairs):
    path = str(shared_data / "oasst" / "en_trees.jsonl")
    source = SOURCES["oasst"].open(path=path, world_seed=0, pairing=rule)
    plain = SOURCES["oasst"].open(path=path, world_seed=0)
    feedback = source.feedback(num_pairs=None, split_seed=0)
    held_out = [row for split in ("dev", "test") for row in source.prompt_set(split).rows]
    lines = (shared_data / "oasst" / "en_trees.jsonl").read_text(encoding="utf-8").splitlines()
    rows = list(SOURCES["oasst"].parse(map(json.loads, lines), "train", Counter(), [], pairing=rule))
    assert len(rows) == num_pairs
    assert feedback.fingerprint.num_prompts + len(held_out) == 122
    assert source.content_id == f"{plain.content_id}-{rule}"


MISTAKES = [
    ("ultrafeedback", {"prompt": "q", "chosen": "a"}, '"rejected" is missing; expected a list of turns'),
    ("ultrafeedback", {**H4, "chosen": None}, '"chosen" = None; expected a list of turns'),
    ("ultrafeedback", {**H4, "chosen": [{"role": "critic", "content": "a"}]}, '"chosen" = ['),
    ("ultrafeedback", {**H4, "chosen": [{"role": "user"}]}, '"chosen" = ['),
    ("ultrafeedback", {**H4, "chosen": ["a"]}, '"chosen" = ['),
    ("ultrafeedback", {**H4, "score_chosen": "high"}, "\"score_chosen\" = 'high'; expected a number"),
    ("ultrafeedback", {"chosen": "a", "rejected": "b"}, '"prompt" is missing, and "chosen" is a text'),
    ("trl", {"chosen": "a", "rejected": "b"}, "where two texts part is not where the answer begins"),
    ("trl", {"prompt": "q", "completion": "a", "label": "maybe"}, "\"label\" = 'maybe'; expected true or"),
    ("trl", {"prompt": "q", "completion": "a", "label": None}, '"label" = None; expected true or false'),
    ("trl", {"prompt": "q", "completion": 3, "label": True}, '"completion" = 3; expected a list of turns'),
    ("trl", {"completion": "a", "label": True}, '"prompt" is missing; expected a list of turns'),
    ("trl", {"text": "a"}, '"chosen" is missing; expected a list of turns'),
    ("kto_mix", {"messages": [{"role": 1, "content": "a"}], "label": True}, '"messages" = ['),
    ("kto_mix", {"messages": "hi"}, '"label" is missing; expected true or false'),
    ("kto_mix", {"prompt": ["q"], "completion": "a", "label": True}, "\"prompt\" = ['q']; expected a list"),
    ("sharegpt", {"chosen": {}, "rejected": {}}, '"conversations" is missing; expected a list of turns'),
    ("sharegpt", {"conversations": [], "chosen": {"from": "gpt"}}, "\"chosen\" = {'from': 'gpt'}; expected"),
    ("sharegpt", {"conversations": [{"from": "bot", "value": "a"}]}, '"conversations" = ['),
    ("shp", {"history": "h"}, '"post_id" is missing; expected a text (found keys: history)'),
    ("shp", {**post("p", 9, 1, 1), "score_A": "many"}, "\"score_A\" = 'many'; expected a number"),
    ("shp", {**post("p", 9, 1, 1), "human_ref_B": None}, '"human_ref_B" = None; expected a text'),
    ("shp", {**post("p", 9, 1, 1), "labels": 2}, '"labels" = 2; expected true or false'),
    ("helpsteer2", {"response": "a", "helpfulness": 3}, '"prompt" is missing; expected a text'),
    ("helpsteer2", {"prompt": "q", "response": "a"}, '"helpfulness" is missing; expected a number'),
    ("helpsteer2", {"prompt": "q", "response": ["a"], "helpfulness": 1}, "\"response\" = ['a']; expected a"),
    ("safe_rlhf", {"prompt": "q", "response_0": "a"}, '"response_1" is missing; expected a text'),
    ("stack_exchange", {"question": "q", "response_j": "a"}, '"response_k" is missing; expected a text'),
    (
        "stack_exchange",
        {"qid": 1, "response_j": "a", "response_k": "b"},
        '"question" is missing; expected a text',
    ),
    (
        "safe_rlhf",
        {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 2},
        '"better_response_id" = 2; expected 0 or 1',
    ),
    (
        "ultrafeedback_ratings",
        {"instruction": "q", "completions": ["a"]},
        "\"completions\" = ['a']; expected",
    ),
    ("ultrafeedback_ratings", {"instruction": "q", "completions": "a"}, "\"completions\" = 'a'; expected a"),
    ("ultrafeedback_ratings", {"completions": []}, '"instruction" is missing; expected a text'),
    ("oasst", {"prompt": reply("t", "q", role="prompter")}, '"message_tree_id" is missing; expected a text'),
    ("oasst", {**TREE, "prompt": reply("t", "q", role="admin")}, "\"role\" = 'admin'; expected prompter or"),
    ("oasst", {"text": "q", "role": "prompter"}, '"message_tree_id" = None; expected a text'),
    (
        "oasst",
        {"message_id": "b", "parent_id": "a", "message_tree_id": "t", "text": "q", "role": "assistant"},
        "'1 replies to a, which is not there'; expected the first message of a tree",
    ),
    ("oasst", {**TREE, "prompt": "q"}, "\"prompt\" = 'q'; expected the first message of a tree"),
    (
        "oasst",
        {**TREE, "prompt": {"role": "prompter", "text": "q", "lang": "en", "replies": ["a"]}},
        "\"replies\" = ['a']; expected a list of objects",
    ),
    (
        "oasst",
        {**TREE, "prompt": reply("t", "q", role="prompter", replies=[reply("a", "b", "best")])},
        "\"rank\" = 'best'; expected a number",
    ),
    ("oasst", {**TREE, "prompt": {"role": "prompter"}}, '"text" is missing; expected a text'),
    ("hh", {"prompt": "q", "answer": "a"}, '"chosen" is missing; expected a text'),
    ("hh", {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": 1}, '"rejected" = 1; expected a text'),
]


@pytest.mark.parametrize(("name", "record", "told"), MISTAKES)
def test_a_row_of_another_schema_is_refused_by_its_number(name, record, told):
    problems = []
    assert list(SOURCES[name].parse([record], "train", Counter(), problems)) == []
    [problem] = problems
    assert problem.startswith("train row 1: ")
    assert told in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("trl", {"prompt": "q", "completion": [], "label": True}),
        ("kto_mix", {"messages": [message(USER, "q"), message(ASSISTANT, " ")], "label": True}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "q"}], "chosen": [], "rejected": []}),
        ("ultrafeedback", {**H4, "chosen": [*ASKED, message(ASSISTANT, "")]}),
        ("safe_rlhf", {"prompt": "q", "response_0": "", "response_1": "a", "better_response_id": 1}),
    ],
)
def test_an_answer_that_says_nothing_is_dropped(name, record):
    assert parse(name, record) == ([], {"an answer is empty": 1})


def test_ten_problems_are_told_and_the_rest_counted(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"prompt": "q"}\n' * 12)
    with pytest.raises(DataError) as refused:
        SOURCES["trl"].open(path=str(tmp_path), world_seed=0)
    assert len(refused.value.problems) == 11
    assert refused.value.problems[-1] == "... and 2 more like these"


def trl_rows(num_rows, first=0):
    numbers = range(first, first + num_rows)
    return [{"prompt": f"q{n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in numbers]


def completions(source):
    """Everything that a source has, by split."""
    held_out = {split: {row.chosen[0] for row in source.prompt_set(split).rows} for split in ("dev", "test")}
    feedback = source.feedback(num_pairs=None, split_seed=0)
    return {"train": {feedback.responses[pair.winner].completion for pair in feedback.pairs}, **held_out}


def save(folder, rows, kind):
    """One split in one of the formats."""
    if kind == "jsonl.gz":
        with gzip.open(folder / "train-0.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    elif kind == "json":
        (folder / "train.json").write_text(json.dumps(rows))
    elif kind == "saved":
        Dataset.from_list(rows).save_to_disk(folder)
    else:
        getattr(Dataset.from_list(rows), f"to_{kind}")(folder / f"anything.{kind}")


@pytest.mark.parametrize("kind", ["jsonl.gz", "json", "parquet", "csv", "saved"])
def test_a_folder_may_hold_any_format(tmp_path, kind):
    save(tmp_path, trl_rows(100), kind)
    found = completions(SOURCES["trl"].open(path=str(tmp_path), world_seed=0))
    assert set.union(*found.values()) == {f"good {n}" for n in range(100)}
    assert sum(map(len, found.values())) == 100
    assert min(map(len, found.values())) > 2


def test_a_file_is_all_train_and_divided_the_same_way_after_an_append(tmp_path):
    file = tmp_path / "mine.jsonl"
    lines = [json.dumps(row) + "\n" for row in trl_rows(120)]
    file.write_text("".join(lines[:100]))
    before = completions(SOURCES["trl"].open(path=str(file), world_seed=0))
    file.write_text("".join([lines[110], *lines[99::-1], *lines[100:110]]))
    after = completions(SOURCES["trl"].open(path=str(file), world_seed=0))
    for split, found in before.items():
        assert found <= after[split]
    assert sum(map(len, after.values())) == 111


@pytest.mark.parametrize("kind", ["saved", "files"])
def test_splits_go_by_the_beginnings_of_their_names_and_those_of_preferences_come_first(kind, tmp_path):
    splits = {
        "train_gen": trl_rows(7, 300),
        "train_prefs": trl_rows(40),
        "train_sft": trl_rows(3, 200),
        "test_gen": trl_rows(6, 400),
        "test_prefs": trl_rows(5, 100),
    }
    if kind == "saved":
        DatasetDict({name: Dataset.from_list(rows) for name, rows in splits.items()}).save_to_disk(tmp_path)
    for name, rows in splits.items() if kind == "files" else ():
        Dataset.from_list(rows).to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
    found = completions(SOURCES["trl"].open(path=str(tmp_path), world_seed=0))
    assert found["test"] == {f"good {n}" for n in range(100, 105)}
    assert len(found["train"] | found["dev"]) == 40


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "no file of rows to train on"),
        ({"test.jsonl": "{}"}, "no file of rows to train on"),
        ({"train.txt": "a"}, "no file of rows to train on"),
        ({"train.jsonl": "{}", "train.csv": "a"}, "files of several formats"),
        ({"train.jsonl": "{"}, "cannot be read as json"),
        ({"train.parquet": "no parquet"}, "cannot be read as parquet"),
    ],
)
def test_a_folder_without_readable_rows_is_refused(tmp_path, files, told):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as refused:
        SOURCES["trl"].open(path=str(tmp_path), world_seed=0)
    [problem] = refused.value.problems
    assert problem.startswith(f"data.path = '{tmp_path}': ")
    assert told in problem


def test_what_is_no_place_is_looked_for_on_the_hub():
    with pytest.raises(DataError, match="neither a file, a folder, nor a data set that can be fetched"):
        SOURCES["shp"].open(path=None, world_seed=0)


# Counts of ../shared/data/README.md; what it does not give is counted from the files themselves below.
@pytest.mark.parametrize(
    ("name", "file", "num_rows", "drops"),
    [
        ("oasst", "oasst/en_trees.jsonl", 249, {"a reply without a rank": 31}),
        ("oasst", "oasst/derived_flat_messages.jsonl", 249, {"a reply without a rank": 31}),
        (
            "ultrafeedback",
            "ultrafeedback/train.jsonl",
            500 - 57 - 1,
            {
                "the two sides have the same score": 56,
                "both answers are the same": 1,
                "an answer is empty": 1,
            },
        ),
        (
            "ultrafeedback",
            "ultrafeedback/test.jsonl",
            80 - 16,
            {"the two sides have the same score": 15, "both answers are the same": 1},
        ),
        ("kto_mix", "llamafactory/kto_en_demo.json", 200, {}),
        ("sharegpt", "llamafactory/dpo_en_demo.json", 199, {}),
        ("sharegpt", "llamafactory/dpo_zh_demo.json", 40, {}),
        ("stack_exchange", "stack_exchange/stack_exchange_paired_tiny.json", 25, {}),
    ],
)
def test_real_files_load_as_their_readme_counts_them(shared_data, name, file, num_rows, drops):
    source = SOURCES[name]
    place = shared_data / file
    lines = place.read_text(encoding="utf-8")
    records = (
        json.loads(lines) if place.suffix == ".json" else [json.loads(line) for line in lines.splitlines()]
    )
    rows, found = parse(name, *records)
    assert (len(rows), found) == (num_rows, drops)
    opened = source.open(path=str(place), world_seed=0)  # the same by way of the library
    assert issubclass(source, PublishedSource)
    train = opened.feedback(num_pairs=None, split_seed=0)
    assert train.drops == drops
    held_out = (
        [row for split in ("dev", "test") for row in opened.prompt_set(split).rows] if train.pairs else []
    )
    assert train.fingerprint.num_pairs + sum(len(row.chosen) for row in held_out) <= num_rows


def test_real_trees_and_messages_are_the_same_feedback(shared_data):
    tree, flat = (
        SOURCES["oasst"].open(path=str(shared_data / "oasst" / name), world_seed=0)
        for name in ("en_trees.jsonl", "derived_flat_messages.jsonl")
    )
    prints = [source.feedback(num_pairs=None, split_seed=0).fingerprint for source in (tree, flat)]
    assert prints[0] == prints[1]
    assert prints[0].num_pairs > 150
    both = [
        {row.prompt_id for row in source.prompt_set(split).rows}
        for source in (tree,)
        for split in ("dev", "test")
    ]
    assert not both[0] & both[1]


def test_real_replies_in_the_middle_are_both_preferred_and_not(shared_data):
    lines = (shared_data / "oasst" / "en_trees.jsonl").read_text(encoding="utf-8").splitlines()
    rows, _ = parse("oasst", *map(json.loads, lines))
    preferred = {row.winner.response_id for row in rows}
    other = {row.loser.response_id for row in rows}
    assert len({row.winner.prompt_id for row in rows}) == 122
    assert len(preferred & other) == 127
    assert len(preferred | other) == 371


def test_real_labels_are_those_of_the_file(shared_data):
    records = json.loads((shared_data / "llamafactory" / "kto_en_demo.json").read_text(encoding="utf-8"))
    rows, _ = parse("kto_mix", *records)
    assert Counter(row.desirable for row in rows) == {True: 107, False: 93}
