"""Online alignment: who is asked when, what becomes of the answers, and rounds that build on each other."""

import json
from collections import Counter

import pytest
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from halobench.compose import compose
from halobench.data.sources.jsonl import JsonLines, read_feedback
from halobench.errors import DataError
from halobench.estimate import estimate
from halobench.feedback import Feedback, Message, response
from halobench.generation import generate
from halobench.judges.base import Answer, Judge
from halobench.materials import Materials
from halobench.registry import JUDGES
from halobench.results.store import Store
from halobench.rounds import FACTS, FEEDBACK, NO_CHOICE, questions, sample_feedback
from halobench.run import execute
from halobench.stages import policy_folder, reference_folder
from tests.training.stages import WIDTH_16, curves, summary, weights

ROUNDS = 2


def silent(*_):
    """Tell nobody."""


@pytest.fixture
def judge(monkeypatch):
    """Register a judge for the test; returns what it was asked, call by call."""
    monkeypatch.setattr(JUDGES, "_entries", {name: JUDGES._load(name) for name in JUDGES})
    asked = []

    def register(rate, name="own"):
        @JUDGES.register(name, source="this test")
        class Own(Judge):
            def scores(self, answers, materials, stream):
                asked.append(list(answers))
                return [rate(answer) for answer in answers]

        return asked

    return register


def shorter(answer):
    return -len(answer.text.split())


def online_recipe(file, loss="kto", *overrides, judge="own", rounds=ROUNDS, samples=2):
    section = f"{{rounds: {rounds}, samples_per_prompt: {samples}, judge: {{name: {judge}}}}}"
    return compose(file, [f"loss.name={loss}", "seed=0", f"data.online={section}", *overrides]).recipes[0]


def three_answers(prompt):
    turns = (Message("user", prompt),)
    return [response(turns, text, group_id=prompt, source="test") for text in ("good", "bad", "ugly")]


def test_each_pair_has_its_turn_in_one_round():
    rows = [three_answers(f"prompt {number}")[:2] for number in range(7)]
    feedback = Feedback.from_pairs([(good, bad) for good, bad in rows])
    turns = [questions(feedback, rounds=3, number=number, seed=4) for number in (1, 2, 3)]
    assert [len(turn) for turn in turns] == [3, 2, 2]
    assert Counter(row.group_id for turn in turns for row in turn) == Counter(f"prompt {n}" for n in range(7))
    assert turns[0] == questions(feedback, rounds=3, number=1, seed=4)
    assert turns != [questions(feedback, rounds=3, number=number, seed=5) for number in (1, 2, 3)]


def test_a_prompt_of_two_pairs_is_asked_twice():
    good, bad, ugly = three_answers("again")
    feedback = Feedback.from_pairs([(good, bad), (good, ugly), (bad, ugly)])
    asked = [row.group_id for n in (1, 2) for row in questions(feedback, rounds=2, number=n, seed=0)]
    assert asked == ["again"] * 3


@pytest.fixture
def said(monkeypatch):
    """Replace what the policy says: the answers to one question after the other."""

    def script(*answers):
        def sample(materials, online, number, policy, asked, report):
            given = [
                [Answer(row.prompt, text.removesuffix(" <eos>"), text.endswith("<eos>")) for text in texts]
                for row, texts in zip(asked, answers, strict=True)
            ]
            return given, 100

        monkeypatch.setattr("halobench.rounds._sample", sample)

    return script


def sampled(recipe, folder):
    folder.mkdir()
    materials = Materials(recipe)
    sample_feedback(materials, recipe.data.online, 1, folder, folder, silent)
    rows = [json.loads(line) for line in (folder / FEEDBACK).read_text().splitlines()]
    return rows, json.loads((folder / FACTS).read_text())["facts"]


def test_the_best_and_the_worst_different_answers_make_a_pair(judge, said, tiny_recipe, tmp_path):
    asked = judge(shorter)
    recipe = online_recipe(tiny_recipe, "kto", "data.num_pairs=5", rounds=1, samples=3)
    said(
        ("one two three <eos>", "one <eos>", "one two <eos>"),  # one against one two three
        ("one <eos>", "one <eos>", "one <eos>"),  # no choice
        ("one <eos>", "one <eos>", "one two"),  # repeated answers are judged once
        ("one <eos>", "two <eos>", "six <eos>"),  # a tie
        (" <eos>", "one two <eos>", " <eos>"),  # an empty answer says nothing, so there is no choice
    )
    rows, facts = sampled(recipe, tmp_path / "feedback")
    assert [(row["chosen"], row["rejected"]) for row in rows] == [
        ("one", "one two three"),
        ("one", "one two"),
    ]
    assert facts["drops"] == {NO_CHOICE: 2, "the answers have the same score": 1}
    assert (facts["num_prompts"], facts["num_pairs"], facts["num_judged"]) == (5, 2, 8)
    assert facts["mean_score"] == -(6 + 3 + 3) / 8
    assert facts["num_ended"] == 14
    assert [[answer.text for answer in call] for call in asked] == [
        ["one two three", "one", "one two", "one", "one two", "one", "two", "six"]
    ]
    assert [answer.ended for answer in asked[0]] == [True, True, True, True, False, True, True, True]


def test_a_judged_pair_is_two_labels_of_the_prompts_of_the_base_selection(judge, said, tiny_recipe, tmp_path):
    judge(shorter)
    recipe = online_recipe(tiny_recipe, "kto", "data.num_pairs=4", rounds=1)
    said(*[("a tea <eos>", "tea <eos>")] * 4)
    rows, facts = sampled(recipe, tmp_path / "feedback")
    base = Materials(recipe).feedback
    feedback = read_feedback(tmp_path / "feedback" / FEEDBACK)
    assert len(rows) == facts["num_pairs"] == len(base.pairs) == 4
    assert [pair.prompt_id for pair in feedback.pairs] == [pair.prompt_id for pair in base.pairs]
    groups = {row.group_id for row in feedback.responses.values()}
    assert groups == {row.group_id for row in base.responses.values()}
    assert facts["sha256"] == feedback.fingerprint.sha256
    assert (feedback.fingerprint.num_desirable, feedback.fingerprint.num_undesirable) == (4, 4)


def test_the_stored_feedback_is_a_source_of_its_own(judge, said, tiny_recipe, tmp_path):
    judge(shorter)
    recipe = online_recipe(tiny_recipe, rounds=1)
    said(*[("a tea <eos>", "tea <eos>")] * 24)
    sampled(recipe, tmp_path / "feedback")
    source = JsonLines.open(path=str(tmp_path / "feedback" / FEEDBACK), world_seed=0)
    assert source.has_pairs
    kept = source.feedback(num_pairs=None, split_seed=0)
    assert 0 < len(kept.pairs) < 24  # a fifth of the groups is held out
    assert set(kept.pairs) < set(read_feedback(tmp_path / "feedback" / FEEDBACK).pairs)


@pytest.mark.parametrize(
    ("rate", "problem"),
    [
        (lambda answer: 1.0, "none of its 2 prompts gave a pair: 2 the answers have the same score"),
        (lambda answer: float("nan"), "judge 'own': gave 0 finite scores for 4 answers"),
    ],
)
def test_a_round_without_pairs_or_scores_is_an_error(rate, problem, judge, said, tiny_recipe, tmp_path):
    judge(rate)
    recipe = online_recipe(tiny_recipe, "kto", "data.num_pairs=2", rounds=1)
    said(*[("a tea <eos>", "tea <eos>")] * 2)
    with pytest.raises(DataError, match=problem):
        sampled(recipe, tmp_path / "feedback")


def small(file, loss="kto", *overrides, **options):
    """An online run from a random model, whose answers are long; no stages before, and none after."""
    return online_recipe(file, loss, "sft=null", "base.steps=1", "optim.lr=1e-2", *overrides, **options)


def test_answers_become_what_the_judge_prefers(judge, tiny_recipe):
    asked = judge(shorter)
    policy_folder(small(tiny_recipe, "kto", "data.num_pairs=96", "loss.beta=0.1", rounds=3), silent)
    first, _, third = [sum(len(answer.text.split()) for answer in call) / len(call) for call in asked]
    assert third < 0.8 * first


def test_the_rounds_add_up_to_one_training(judge, tiny_recipe, home):
    asked = judge(shorter)
    recipe = small(tiny_recipe, "dpo", samples=4)
    told = []
    policy = policy_folder(recipe, lambda *what: told.append(what))
    facts, found = summary(policy), curves(policy)
    rounds = facts["rounds"]
    stored = [home / "feedback" / f"{recipe.run_id}-{number}" for number in (1, 2)]
    # 24 prompts in two rounds, 8 pairs a step; what gave no pair is not trained
    assert [row["num_prompts"] for row in rounds] == [12, 12]
    assert [row["num_pairs"] + sum(row["drops"].values()) for row in rounds] == [12, 12]
    assert [row["num_judged"] for row in rounds] == [len(call) for call in asked]
    assert [row["sha256"] for row in rounds] == [
        read_feedback(folder / FEEDBACK).fingerprint.sha256 for folder in stored
    ]
    assert rounds[0]["sha256"] != rounds[1]["sha256"]
    assert facts["completions"] == 2 * sum(row["num_pairs"] for row in rounds)
    assert facts["desirable"] == facts["undesirable"] == sum(row["num_pairs"] for row in rounds)
    assert facts["steps"] == sum(-(-row["num_pairs"] // 8) for row in rounds)
    assert found.query("metric == 'loss'")["step"].tolist() == list(range(1, facts["steps"] + 1))
    assert found["tokens"].is_monotonic_increasing
    assert found["tokens"].max() == facts["tokens"]
    # 6 per parameter and trained token, 2 per sampled one
    sampling = sum(row["tokens"] for row in rounds)
    trained = facts["tokens"] - sampling
    assert facts["flops"] == facts["parameters"] * (6 * trained + 2 * sampling)
    assert told[-1] == ("align 2", *[-(-rounds[1]["num_pairs"] // 8)] * 2)
    assert list((home / "rounds").glob("[!.]*")) == []  # of the policies the last is left


def test_later_rounds_start_from_the_policy_and_keep_the_reference(judge, tiny_recipe, monkeypatch):
    judge(shorter)
    seen = []

    def train_stage(materials, stage, name, start, output, report, *, reference=None):
        seen.append((stage, start.name if start else None, reference))
        train(materials, stage, name, start, output, report, reference=reference)

    from halobench.training import stage

    train = stage.train_stage
    monkeypatch.setattr(stage, "train_stage", train_stage)
    recipe = small(tiny_recipe, rounds=3)
    reference = reference_folder(recipe, silent)
    policy_folder(recipe, silent)
    assert seen == [
        ("base", None, None),
        ("align", reference.name, reference),
        ("align", f"{recipe.run_id}-1", reference),
        ("align", f"{recipe.run_id}-2", reference),
    ]


def test_what_is_interrupted_in_a_later_round_goes_on_to_the_same_bytes(
    judge, tiny_recipe, tmp_path, monkeypatch
):
    asked = judge(shorter)
    recipe = small(tiny_recipe, "kto", "budget.batch_pairs=2")

    def pull_the_plug(phase, done, total):
        if (phase, done) == ("align 2", 3):
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="pulled the plug"):
        policy_folder(recipe, pull_the_plug)
    assert len(asked) == 2
    told = []
    resumed = policy_folder(recipe, lambda phase, done, total: told.append((phase, done)))
    assert len(asked) == 2
    assert told[0] == ("align 2", 3)  # a checkpoint stands after step 2

    monkeypatch.setenv("HALOBENCH_HOME", str(tmp_path / "another"))
    whole = policy_folder(recipe, silent)
    for file in ("model.safetensors", "curves.parquet"):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes(), file
    same = {key: value for key, value in summary(whole).items() if key != "seconds"}
    assert {key: value for key, value in summary(resumed).items() if key != "seconds"} == same


def test_a_round_that_diverges_ends_the_run(judge, tiny_recipe):
    asked = judge(shorter)
    policy = policy_folder(small(tiny_recipe, "dpo", "optim.lr=1e30", "budget.batch_pairs=2"), silent)
    facts = summary(policy)
    assert facts["status"] == "diverged"
    assert facts["reason"].startswith("round 1: step 2 of ")
    assert len(facts["rounds"]) == len(asked) == 1
    assert not (policy / "model.safetensors").exists()


@pytest.mark.parametrize("loss", ["csft", "sft"])
def test_every_view_can_be_made_of_judged_answers(loss, judge, tiny_recipe):
    judge(shorter)
    policy = policy_folder(small(tiny_recipe, loss), silent)
    assert summary(policy)["status"] == "completed"
    assert weights(policy)


def test_a_run_is_recorded_with_its_rounds_and_forced_to_the_same_bytes(judge, tiny_recipe, tmp_path):
    asked = judge(shorter)
    recipe = small(tiny_recipe, "dpo", "scoring.temperatures=[1.0]", "scoring.num_prompts=2")
    store = Store(tmp_path / "results")
    assert execute(recipe, store, silent) == "completed"
    record = store.record(recipe.run_id)
    assert [row.num_prompts for row in record.rounds] == [12, 12]
    assert record.data.sha256 == Materials(recipe).feedback.fingerprint.sha256
    assert record.data.view_desirable == sum(row.num_pairs for row in record.rounds)
    assert record.recipe["data"]["online"] == {
        "rounds": 2,
        "samples_per_prompt": 2,
        "temperature": 1.0,
        "judge": {"name": "own"},
    }
    calls = len(asked)
    assert execute(recipe, store, silent, force=True) == "completed"  # or it would be said to differ
    assert len(asked) == 2 * calls


def test_the_plan_counts_the_tokens_of_sampling(tiny_recipe):
    offline = compose(tiny_recipe, ["loss.name=dpo", "seed=0"]).recipes[0]
    online = online_recipe(tiny_recipe, "dpo", judge="oracle", samples=3)
    materials = Materials(offline)
    words = [
        (len(r.prompt[0].content.split()), len(r.completion.split()))
        for r in materials.feedback.responses.values()
    ]
    prompt = sum(p for p, _ in words) / len(words) + 3  # <bos> <user> ... <bot>
    completion = sum(c for _, c in words) / len(words) + 1  # ... <eos>
    # 24 pairs, trained on once each: 48 completions with their prompts; of each prompt three more are sampled
    trained = 48 * (prompt + completion)
    assert estimate(offline).tokens == pytest.approx(trained)
    assert estimate(online).tokens == pytest.approx(trained + 24 * prompt + 72 * completion)
    assert estimate(online).flops > estimate(offline).flops


def test_control_tokens_that_a_round_has_taught_are_asked_with_and_kept_in_the_next(
    judge, tmp_path, monkeypatch
):
    asked = judge(shorter)
    words = ["<end>", "<pad>", "Human:", "Assistant:", "say", "yes", "no", *map(str, range(60))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    rows = [{"prompt": f"say {i}", "chosen": "yes", "rejected": "no"} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    document = {
        "data": {
            **{"source": "jsonl", "path": str(tmp_path / "rows.jsonl"), "num_pairs": 16},
            **{"max_length": 16, "max_prompt_length": 8},
            "online": {"rounds": 2, "judge": {"name": "own"}},
        },
        "model": {
            "architecture": WIDTH_16.model_dump(),
            "tokenizer": {"path": str(tmp_path / "tokenizer.json"), "eos": "<end>", "pad": "<pad>"},
        },
        "loss": "csft",
        "optim": {"lr": 0.01},
        "budget": {"batch_pairs": 8},
        "scoring": {"scorers": ["implied_reward"]},
    }
    recipe.write_text(yaml.safe_dump(document))
    known, prompts = [], []
    from halobench.training import stage

    def add_control_tokens(model, tokenizer, tokens):
        known.append(set(tokens) <= set(tokenizer.get_vocab()))
        add(model, tokenizer, tokens)

    def watched(model, requests, *arguments):
        prompts.append({request.prompt[-1] for request in requests})
        return generate(model, requests, *arguments)

    add = stage.add_control_tokens
    monkeypatch.setattr(stage, "add_control_tokens", add_control_tokens)
    monkeypatch.setattr("halobench.rounds.generate", watched)
    policy = policy_folder(compose(recipe).recipes[0], silent)
    assert known == [False, True]
    assert len(weights(policy)["model.embed_tokens.weight"]) == len(words) + 2
    assert prompts == [{words.index("Assistant:")}, {len(words)}]  # the first new token asks for a good one
    assert len(asked) == 2
