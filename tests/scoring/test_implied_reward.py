"""The implied reward log pi / pi_ref on held-out pairs: drift, accuracy, and what length alone would give."""

import pytest
import torch

from halobench.errors import DataError
from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.scoring import implied_reward
from halobench.scoring.implied_reward import ImpliedReward
from tests.scoring.conftest import values

ASK = (Message("user", "a hot drink , under 4 ."),)
# In truth (world 0): the chai fits, 2; with an opener 2.4; the mocha does not, -.667; a refusal is wrong, -1.
PAIRS = {
    "better and longer": ("sure ! try the chai .", "try the mocha ."),
    "better and shorter": ("try the mocha .", "sorry , we have nothing like that ."),
    "better, as long": ("try the chai .", "try the mocha ."),
    "worse and shorter": ("try the mocha .", "sure ! try the chai ."),
    "tied in truth": ("try the chai .", "how about the lemonade ?"),  # 2 and 2
}
ROWS = PromptSet(tuple(EvaluationPrompt(k, k, ASK, (c,), (r,)) for k, (c, r) in PAIRS.items()))


def logp(model, tokenizer, text):
    """Sum over the answer's tokens and its end marker, by the model alone."""
    asked = tokenizer(f"<bos> <user> {ASK[0].content} <bot>")["input_ids"]
    answer = tokenizer(f"{text} <eos>")["input_ids"]
    with torch.no_grad():
        logps = model(torch.tensor([asked + answer])).logits[0].double().log_softmax(-1)
    return sum(logps[len(asked) - 1 + i, token].item() for i, token in enumerate(answer))


@pytest.fixture
def contender(make):
    return make(policy=1, reference=2, prompts=ROWS)


@pytest.fixture
def drift(contender):
    """For each pair: log pi / pi_ref of both sides."""
    models = contender.model, contender.reference_model

    def of(text):
        policy, reference = (logp(model, contender.tokenizer, text) for model in models)
        return policy - reference

    return {name: (of(chosen), of(rejected)) for name, (chosen, rejected) in PAIRS.items()}


def by_prompt(result, metric):
    rows = result.rows[result.rows["metric"] == metric]
    return dict(zip(rows["prompt_id"], rows["value"], strict=True))


def test_drift_and_margin_are_log_ratios_of_policy_and_reference(contender, drift):
    result = ImpliedReward().score(contender)
    chosen, rejected, margin = (by_prompt(result, m) for m in ("chosen_drift", "rejected_drift", "margin"))
    for name, (winner, loser) in drift.items():
        assert chosen[name] == pytest.approx(winner, abs=1e-4)
        assert rejected[name] == pytest.approx(loser, abs=1e-4)
        assert margin[name] == pytest.approx(winner - loser, abs=1e-4)
        assert abs(winner - loser) > 0.01
    found = values(result)
    assert found["pairs", "chosen_drift"] == pytest.approx(sum(c for c, _ in drift.values()) / 5, abs=1e-4)
    assert found["pairs", "margin"] == pytest.approx(sum(c - r for c, r in drift.values()) / 5, abs=1e-4)


def test_accuracy_is_the_share_of_pairs_whose_chosen_answer_has_the_higher_reward(contender, drift):
    result = ImpliedReward().score(contender)
    right = {name: float(winner > loser) for name, (winner, loser) in drift.items()}
    assert set(right.values()) == {0.0, 1.0}
    assert by_prompt(result, "accuracy") == right
    assert values(result)["pairs", "accuracy"] == pytest.approx(sum(right.values()) / 5)


def test_always_preferring_the_longer_answer_is_the_accuracy_to_beat(contender):
    longer = {
        "better and longer": 1,
        "better and shorter": 0,
        "better, as long": 0.5,
        "worse and shorter": 0,
        "tied in truth": 0,
    }
    result = ImpliedReward().score(contender)
    assert by_prompt(result, "longer") == longer
    assert values(result)["pairs", "longer"] == pytest.approx(1.5 / 5)


def test_accuracy_by_the_truth_turns_wrong_labels_and_skips_ties(contender, drift):
    result = ImpliedReward().score(contender)
    expected = {
        name: float(winner > loser) for name, (winner, loser) in drift.items() if name != "tied in truth"
    }
    expected["worse and shorter"] = 1 - expected["worse and shorter"]
    assert by_prompt(result, "accuracy_gold") == expected
    [score] = [s for s in result.scores if s.metric == "accuracy_gold"]
    assert score.num_samples == 4
    assert score.value == pytest.approx(sum(expected.values()) / 4)


def test_policy_that_is_its_reference_has_no_reward_and_is_right_half_the_time(make):
    result = ImpliedReward().score(make(policy=1, reference=1, prompts=ROWS))
    found = values(result)
    for metric in ("chosen_drift", "rejected_drift", "margin"):
        assert set(by_prompt(result, metric).values()) == {0.0}
        assert found["pairs", metric] == 0
    assert set(by_prompt(result, "accuracy").values()) == {0.5}
    assert set(by_prompt(result, "accuracy_gold").values()) == {0.5}
    assert found["pairs", "longer"] == pytest.approx(1.5 / 5)


def test_only_the_first_pair_of_a_prompt_counts(make):
    one = PromptSet((ROWS.rows[0],))
    more = PromptSet(
        (ROWS.rows[0]._replace(chosen=(*ROWS.rows[0].chosen, "x"), rejected=(*ROWS.rows[0].rejected, "y")),)
    )
    first, second = (ImpliedReward().score(make(prompts=prompts)) for prompts in (one, more))
    assert first.rows.equals(second.rows)


def test_truth_is_not_asked_where_there_is_no_world(contender, monkeypatch):
    monkeypatch.setattr(implied_reward, "World", type("NoSource", (), {}))
    metrics = {metric for _, metric in values(ImpliedReward().score(contender))}
    assert metrics == {"accuracy", "longer", "margin", "chosen_drift", "rejected_drift"}


def test_a_model_without_a_reference_has_no_implied_reward(make):
    result = ImpliedReward().score(make(reference=None, prompts=ROWS))
    assert result.scores == []
    assert len(result.rows) == 0


def test_csft_is_asked_with_its_good_token_and_its_reference_is_not(make, drift):
    contender = make(policy=1, reference=2, prompts=ROWS, loss="csft")
    tokenizer = contender.tokenizer
    result = ImpliedReward().score(contender)
    good = tokenizer.convert_tokens_to_ids("<good>")
    asked = tokenizer(f"<bos> <user> {ASK[0].content} <bot>")["input_ids"]
    answer = tokenizer("try the chai . <eos>")["input_ids"]
    with torch.no_grad():
        logps = contender.model(torch.tensor([[*asked, good, *answer]])).logits[0].double().log_softmax(-1)
    policy = sum(logps[len(asked) + i, token].item() for i, token in enumerate(answer))
    reference = logp(contender.reference_model, tokenizer, "try the chai .")
    assert by_prompt(result, "chosen_drift")["better, as long"] == pytest.approx(policy - reference, abs=1e-4)
    assert abs(policy - reference - drift["better, as long"][0]) > 0.01


# answers that were never paired: a label each, some to one prompt
LABELLED = {
    "chai": (False, "try the chai ."),
    "refusal": (False, "sorry , we have nothing like that ."),
    "mocha": (True, "try the mocha ."),
    "opener": (True, "sure ! try the chai ."),
    "tea": (True, "try the tea ."),
}
SINGLES = PromptSet(
    tuple(
        EvaluationPrompt(name, name, ASK, (text,) if good else (), () if good else (text,))
        for name, (good, text) in LABELLED.items()
    )
)


def by_hand(rewards):
    """AUC by counting the right order in all couples, and its error by DeLong's components, a couple each."""
    good = [rewards[name] for name, (label, _) in LABELLED.items() if label]
    bad = [rewards[name] for name, (label, _) in LABELLED.items() if not label]

    def right(a, b):
        return 0.5 if a == b else float(a > b)

    auc = sum(right(a, b) for a in good for b in bad) / (len(good) * len(bad))
    of_good = [sum(right(a, b) for b in bad) / len(bad) for a in good]
    of_bad = [sum(right(a, b) for a in good) / len(good) for b in bad]
    squares = sum((v - auc) ** 2 for v in of_good) / len(good) ** 2
    squares += sum((v - auc) ** 2 for v in of_bad) / len(bad) ** 2
    return auc, squares**0.5


def test_answers_that_were_never_paired_are_scored_by_the_auc_of_their_rewards(make):
    contender = make(policy=1, reference=2, prompts=SINGLES)
    models = contender.model, contender.reference_model
    rewards = {
        name: logp(models[0], contender.tokenizer, text) - logp(models[1], contender.tokenizer, text)
        for name, (_, text) in LABELLED.items()
    }
    lengths = {name: len(text.split()) for name, (_, text) in LABELLED.items()}
    scores = {score.metric: score for score in ImpliedReward().score(contender).scores}
    assert set(scores) == {"auc", "auc_longer"}
    for metric, measured in (("auc", rewards), ("auc_longer", lengths)):
        auc, error = by_hand(measured)
        assert 0 < auc < 1
        assert scores[metric].value == pytest.approx(auc, abs=1e-6)
        # the error over prompts has n - 1 below the line, DeLong's n
        assert scores[metric].stderr == pytest.approx(error * (5 / 4) ** 0.5, rel=1e-5)
        assert scores[metric].num_samples == 5


def test_answer_of_each_label_to_one_prompt_is_a_pair_and_part_of_the_auc(make):
    both = EvaluationPrompt("both", "both", ASK, ("try the chai .",), ("try the mocha .",))
    prompts = PromptSet((both, *SINGLES.rows[1:]))
    result = ImpliedReward().score(make(policy=1, reference=2, prompts=prompts))
    assert set(by_prompt(result, "accuracy")) == {"both"}
    alone = ImpliedReward().score(make(policy=1, reference=2, prompts=SINGLES))
    assert set(by_prompt(result, "auc")) == {"both", "refusal", "mocha", "opener", "tea"}
    assert 0 <= values(result)["pairs", "auc"] <= 1
    assert ("pairs", "accuracy") not in values(alone)


def test_answers_of_one_label_have_no_auc(make):
    liked = PromptSet(tuple(row for row in SINGLES.rows if row.chosen))
    with pytest.raises(DataError, match="one label only; the AUC needs both"):
        ImpliedReward().score(make(policy=1, reference=2, prompts=liked))
