"""The probes as lm-eval tasks: the numbers a direct computation with the model gives."""

import random
from types import SimpleNamespace

import pytest
import torch

from halobench.scoring.lm_eval import InMemoryLM, LmEvalScorer
from halobench.worlds.base import Probe
from tests.scoring.conftest import values

PROBES = {
    "sort": [
        Probe("sort : 7 2 9 =", ("2 7 9", "9 7 2", "2 9 7")),
        Probe("sort : 3 1 =", ("1 3", "3 1", "1 1")),
    ],
    "pick": [Probe("pick : hot drink , no milk =", ("lemonade", "chai", "mocha", "tea"))],
    "facts": [
        Probe("fact : bagel costs", ("3 .", "4 .", "5 .")),
        Probe("fact : bagel has", ("milk .", "no milk .")),
        Probe("fact : tea is a", ("cold drink .", "hot drink .")),
    ],
}


def logp(model, tokenizer, context, answer):
    """Log-probability in nats of the answer's tokens after the begin marker and the context."""
    before = tokenizer(f"<bos> {context}".strip())["input_ids"]
    after = tokenizer(answer)["input_ids"]
    with torch.no_grad():
        logps = model(torch.tensor([before + after])).logits[0].double().log_softmax(-1)
    return sum(logps[len(before) - 1 + i, token].item() for i, token in enumerate(after))


@pytest.fixture
def contender(make, monkeypatch):
    made = make(policy=1)
    monkeypatch.setattr(made.materials.world, "probes", lambda skill, split: PROBES[skill])
    return made


@pytest.fixture
def lm(contender):
    def make_lm(max_length=64):
        return InMemoryLM(contender.model, contender.tokenizer, max_length=max_length)

    return make_lm


def test_accuracy_and_gold_logp_are_those_of_a_direct_computation(contender):
    result = LmEvalScorer().score(contender)
    rows = {(row.prompt_id, row.metric): row.value for row in result.rows.itertuples()}
    assert len(rows) == 2 * 6
    found = values(result)
    right_of_all = []
    for skill, probes in PROBES.items():
        gold, right = [], []
        for number, probe in enumerate(probes):
            logps = [logp(contender.model, contender.tokenizer, probe.context, c) for c in probe.choices]
            gold.append(logps[0])
            right.append(float(logps[0] == max(logps)))
            assert rows[f"{skill}-{number:03d}", f"{skill}_gold_logp"] == pytest.approx(logps[0], abs=1e-4)
            assert rows[f"{skill}-{number:03d}", f"{skill}_accuracy"] == right[-1]
        assert found[skill, "gold_logp"] == pytest.approx(sum(gold) / len(gold), abs=1e-4)
        assert found[skill, "accuracy"] == pytest.approx(sum(right) / len(right))
        right_of_all += right
    assert set(right_of_all) == {0.0, 1.0}


def test_answers_are_scored_in_any_number_and_order(contender, lm):
    texts = [(p.context, f" {choice}") for probes in PROBES.values() for p in probes for choice in p.choices]
    random.Random(0).shuffle(texts)
    answers = lm().loglikelihood([SimpleNamespace(args=text) for text in texts])
    for (context, answer), (total, _) in zip(texts, answers, strict=True):
        assert total == pytest.approx(logp(contender.model, contender.tokenizer, context, answer), abs=1e-4)


def greedy(contender, text, num_tokens):
    ids = contender.tokenizer(text)["input_ids"]
    length = len(ids)
    with torch.no_grad():
        for _ in range(num_tokens):
            ids.append(contender.model(torch.tensor([ids])).logits[0, -1].argmax().item())
    return contender.tokenizer.convert_ids_to_tokens(ids[length:])


def test_it_is_known_whether_an_answer_is_the_greedy_one(contender, lm):
    [first, second] = greedy(contender, "<bos> fact : bagel", 2)
    asked = [("fact : bagel", f" {first} {second}"), ("fact : bagel", f" {first} {second} {first} {first}")]
    assert first != second
    assert [is_greedy for _, is_greedy in lm().loglikelihood([SimpleNamespace(args=a) for a in asked])] == [
        True,
        False,
    ]


def test_whole_text_is_scored_from_its_begin_marker(contender, lm):
    texts = ["fact : bagel costs 3 .", "try the tea ."]
    totals = lm().loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in texts])
    assert totals == pytest.approx(
        [logp(contender.model, contender.tokenizer, "", t) for t in texts], abs=1e-4
    )


def test_long_text_is_scored_in_windows_each_token_once(contender, lm):
    text = "fact : bagel costs 3 . fact : tea is a cold drink ."
    model = lm(max_length=5)  # windows of 4 tokens and one before them: 14 tokens are 4, 4, 4 and 2
    windows, totals = [], []

    def record(requests, **keys):
        answers = original(requests, **keys)
        windows.extend(contender.tokenizer.convert_ids_to_tokens(answer) for _, _, answer in requests)
        totals.extend(total for total, _ in answers)
        return answers

    original = model._loglikelihood_tokens
    model._loglikelihood_tokens = record
    [total] = model.loglikelihood_rolling([SimpleNamespace(args=(text,))])
    assert [len(window) for window in windows] == [4, 4, 4, 2]
    assert [word for window in windows for word in window] == text.split()
    assert total == pytest.approx(sum(totals))
    assert totals[0] == pytest.approx(
        logp(contender.model, contender.tokenizer, "", "fact : bagel costs"), abs=1e-4
    )


@pytest.mark.parametrize("num_tokens", [1, 6])
def test_continuation_is_greedy(contender, lm, num_tokens):
    expected = greedy(contender, "<bos> try the", num_tokens)
    assert "<eos>" not in expected
    request = SimpleNamespace(args=("try the", {"max_gen_toks": num_tokens, "until": []}))
    assert lm().generate_until([request])[0].split() == expected


def test_continuation_stops_before_its_stop_string(contender, lm):
    expected = greedy(contender, "<bos> try the", 6)
    stop = expected[3]
    request = SimpleNamespace(args=("try the", {"max_gen_toks": 6, "until": ["nowhere", stop]}))
    [text] = lm().generate_until([request])
    assert text.split() == expected[: expected.index(stop)]


def test_continuation_longer_than_the_model_still_sees_its_prompt(contender, lm):
    # lm-eval's tasks ask for 256 tokens by default, and small models have fewer positions
    expected = greedy(contender, "<bos> try the", 1)
    request = SimpleNamespace(args=("try the", {"max_gen_toks": 10, "until": []}))
    [text] = lm(max_length=8).generate_until([request])
    assert text.split()[:1] == expected
