"""The oracle scorer: win rates, T*, KL and sft@T worked out by hand on scripted answers."""

from collections import defaultdict

import pytest
import torch

from halobench.scoring.oracle import OracleScorer
from tests.scoring.conftest import DEV, PROMPTS, values

FITS = "try the lemonade . <eos>"  # 2
CHAI = "try the chai . <eos>"  # 2
COLD = "try the mocha . <eos>"  # -.667
BAGEL = "try the bagel . <eos>"  # 2
POLITE = "sure ! try the bagel . <eos>"  # 2.4
NONSENSE = "tea . tea tea ."  # -2 - 2 - 1.5 = -5.5: two sentences that say nothing, and no end

SAMPLED = {"drink": [FITS, COLD], "snack": [POLITE, NONSENSE], "dev": [FITS, COLD]}
GREEDY = {"drink": [CHAI], "snack": [BAGEL], "dev": [COLD]}
DRAWN = {"drink": [COLD, CHAI], "snack": [BAGEL, BAGEL], "dev": [COLD, COLD]}
REFERENCE = defaultdict(lambda: DRAWN, {0.0: {"drink": [COLD], "snack": [BAGEL], "dev": [COLD]}})


@pytest.fixture
def scored(make, scripted):
    contender = make()
    # entropies: policy .6 nats at T=1; reference 0, 1.2 and 2 at T = 0, 1 and 1.5
    known = {("policy", 1.0): 0.6, ("policy", 0.0): 0.0, ("reference", 1.0): 1.2, ("reference", 1.5): 2.0}
    scripted(contender, {1.0: SAMPLED, 0.0: GREEDY}, REFERENCE, entropy=lambda *key: known.get(key, 0.0))
    return OracleScorer().score(contender)


def test_every_answer_meets_every_preferred_draw_and_ties_count_half(scored):
    found = values(scored)
    # drink, against 2, -.667, -1, -1.333: 2 ties once, wins thrice: .875; -.667 loses, ties, wins twice: .625
    # snack, against 2 and 2.3: 2.4 wins both: 1; -5.5 loses both: 0
    assert found["T=1", "winrate"] == pytest.approx(((0.875 + 0.625) / 2 + (1 + 0) / 2) / 2)
    assert found["T=1", "tie"] == pytest.approx(((1 / 4 + 1 / 4) / 2 + 0) / 2)
    # the first answer against the first draw: 2 to 2, and 2.4 to 2
    assert found["T=1", "winrate_first"] == pytest.approx((0.5 + 1) / 2)
    # greedy: 2 as above, .875; 2 ties with 2 and loses to 2.3, .25
    assert found["greedy", "winrate"] == pytest.approx((0.875 + 0.25) / 2)
    assert ("greedy", "winrate_first") not in found


def test_answers_meet_the_answers_of_the_reference_at_the_same_temperature(scored):
    found = values(scored)
    # drink: 2 against -.667 and 2 is .75, -.667 is .25; snack: 2.4 beats 2 and 2, -5.5 does not
    assert found["T=1", "winrate_reference"] == pytest.approx(((0.75 + 0.25) / 2 + (1 + 0) / 2) / 2)
    # drink: 2 against -.667; snack: 2 against 2
    assert found["greedy", "winrate_reference"] == pytest.approx((1 + 0.5) / 2)


def test_utility_its_parts_and_the_shape_of_the_answers(scored):
    found = values(scored)
    assert found["T=1", "utility"] == pytest.approx(((2 - 2 / 3) / 2 + (2.4 - 5.5) / 2) / 2)
    assert found["T=1", "task"] == pytest.approx(((2 - 2 / 3) / 2 + (2 - 2) / 2) / 2)
    assert found["T=1", "manners"] == pytest.approx((0 + 0.2) / 2)
    assert found["T=1", "form"] == pytest.approx((0 - 3.5 / 2) / 2)
    assert found["T=1", "truth"] == found["T=1", "brevity"] == 0
    # tokens without the end marker: 4 and 4, 6 and 5
    assert found["T=1", "length"] == pytest.approx((4 + 5.5) / 2)
    assert found["T=1", "ended"] == pytest.approx((1 + 0.5) / 2)
    assert found["T=1", "entropy"] == pytest.approx(0.6)
    assert found["T=1", "distinct"] == 1.0  # four different texts
    assert found["T=1", "utility_q05"] == pytest.approx(-5.5 + 0.15 * (5.5 - 2 / 3), abs=1e-5)


def test_errors_are_those_of_the_means_of_the_prompts(scored):
    [score] = [s for s in scored.scores if (s.task, s.metric) == ("T=1", "winrate")]
    # means .75 and .5: standard deviation .25 / sqrt(2), over sqrt(2) prompts
    assert score.stderr == pytest.approx(0.125)
    assert score.num_samples == 2
    assert score.higher_is_better


def test_rows_hold_every_answer(scored):
    rows = scored.rows
    kept = rows[(rows["decode"] == "T=1") & (rows["metric"] == "winrate")]
    assert sorted(tuple(row) for row in kept[["prompt_id", "rep", "value"]].to_numpy()) == [
        ("drink", 0, 0.875),
        ("drink", 1, 0.625),
        ("snack", 0, 1.0),
        ("snack", 1, 0.0),
    ]
    samples = scored.samples
    assert samples[samples["decode"] == "T=1"]["text"].tolist() == [FITS, COLD, POLITE, NONSENSE]


@pytest.mark.parametrize(
    ("answers", "collapsed", "flag"),
    [
        (
            {"drink": [FITS, COLD], "snack": [POLITE, NONSENSE]},
            0.25,
            0,
        ),  # a quarter is not more than a quarter
        ({"drink": [FITS, NONSENSE], "snack": [POLITE, NONSENSE]}, 0.5, 1),
        ({"drink": [FITS, "tea ."], "snack": [POLITE, "tea . tea tea . <eos>"]}, 0.5, 1),  # forms -2.5 and -2
    ],
)
def test_a_policy_collapses_when_more_than_a_quarter_of_its_answers_say_nothing(
    make, scripted, answers, collapsed, flag
):
    contender = make(reference=None)
    scripted(contender, {1.0: SAMPLED | answers, 0.0: GREEDY})
    found = values(OracleScorer().score(contender))
    assert found["T=1", "collapsed"] == pytest.approx(collapsed)
    assert found["T=1", "collapse"] == flag


@pytest.mark.parametrize(
    ("dev", "star"),
    [
        ({1.0: [COLD, COLD], 0.5: [FITS, FITS], 0.0: [COLD]}, 0.5),
        ({1.0: [COLD, COLD], 0.5: [FITS, FITS], 0.0: [FITS]}, 0.5),  # the higher of equals
        ({1.0: [FITS, FITS], 0.5: [FITS, FITS], 0.0: [FITS]}, 1.0),
        ({1.0: [FITS, COLD], 0.5: [COLD, COLD], 0.0: [FITS]}, 0.0),
    ],
)
def test_best_temperature_is_chosen_on_the_dev_prompts(make, scripted, dev, star):
    contender = make("scoring.temperatures=[0.0, 1.0, 0.5]", reference=None)
    # on the test prompts every answer says which temperature it was drawn at
    test = {1.0: [COLD, COLD], 0.5: [NONSENSE, NONSENSE], 0.0: [FITS]}
    scripted(contender, {t: {"drink": test[t], "snack": test[t], "dev": dev[t]} for t in test})
    result = OracleScorer().score(contender)
    found = values(result)
    assert found["T*", "temperature"] == star
    at_star = result.rows[(result.rows["decode"] == "T*") & (result.rows["metric"] == "utility")]
    drawn = {1.0: -2 / 3, 0.5: -5.5, 0.0: 2.0}[star]
    assert at_star["value"].iloc[0] == pytest.approx(drawn)


def test_a_temperature_of_1_is_a_candidate_whatever_the_recipe_says(make, scripted):
    contender = make("scoring.temperatures=[0.0]", reference=None)
    scripted(contender, {1.0: SAMPLED | {"dev": [FITS, FITS]}, 0.0: GREEDY})
    assert values(OracleScorer().score(contender))["T*", "temperature"] == 1.0


@pytest.mark.parametrize(
    ("entropy", "temperature"),
    [
        (0.6, 0.625),  # a quarter of the way from .4 at T=.5 to 1.2 at T=1
        (1.2, 1.0),
        (1.6, 1.25),
        (0.0, 0.0),
        (9.0, 1.5),  # no hotter than 1.5
    ],
)
def test_sft_at_t_is_the_reference_at_the_temperature_of_equal_entropy(make, scripted, entropy, temperature):
    contender = make("scoring.temperatures=[1.0, 0.5, 0.0]")
    asked = {0.0: 0.0, 0.5: 0.4, 1.0: 1.2, 1.5: 2.0}
    matched = {"drink": [FITS, FITS], "snack": [NONSENSE, NONSENSE]}
    said = {t: DRAWN for t in asked} | {temperature: DRAWN | matched}
    scripted(
        contender,
        {1.0: SAMPLED, 0.5: SAMPLED, 0.0: GREEDY},
        said,
        entropy=lambda who, t: entropy if who == "policy" else asked.get(t, -1.0),
    )
    found = values(OracleScorer().score(contender))
    assert found["sft@T", "temperature"] == pytest.approx(temperature)
    assert found["sft@T", "winrate"] == pytest.approx((0.875 + 0) / 2)


def test_kl_is_zero_when_the_policy_is_the_reference(make):
    result = OracleScorer().score(make(policy=1, reference=1))
    kl = result.rows[result.rows["metric"] == "kl"]["value"]
    assert len(kl) == 2
    assert kl.tolist() == [0, 0]
    # and its answers are the reference's, drawn with the same noise
    found = values(result)
    assert found["T=1", "winrate_reference"] == found["greedy", "winrate_reference"] == 0.5


def test_kl_is_the_sum_over_the_tokens_of_the_first_answer(make, scripted):
    contender = make(policy=1, reference=2)
    scripted(contender, {1.0: SAMPLED, 0.0: GREEDY}, REFERENCE)
    rows = OracleScorer().score(contender).rows
    found = rows[rows["metric"] == "kl"].set_index("prompt_id")["value"].to_dict()
    for prompt in PROMPTS.rows:
        asked = f"<bos> <user> {prompt.prompt[0].content} <bot>"
        before, after = (contender.tokenizer(t)["input_ids"] for t in (asked, SAMPLED[prompt.prompt_id][0]))
        with torch.no_grad():
            p, q = (
                model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1].double().softmax(-1)
                for model in (contender.model, contender.reference_model)
            )
        assert found[prompt.prompt_id] == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-4)
        assert found[prompt.prompt_id] > 0.01


def test_base_and_reference_rows_have_no_reference_to_meet(make, scripted):
    contender = make(reference=None)
    scripted(contender, {1.0: SAMPLED, 0.0: GREEDY})
    metrics = {metric for _, metric in values(OracleScorer().score(contender))}
    assert not metrics & {"kl", "winrate_reference"}
    assert {"winrate", "winrate_first", "utility", "collapse"} <= metrics


def test_csft_is_asked_with_its_good_token_and_the_reference_is_not(make):
    contender = make("loss.name=csft", loss="csft")
    good = contender.tokenizer.convert_tokens_to_ids("<good>")
    asked = contender.prompt_tokens(PROMPTS.rows[0].prompt)
    assert asked[-1] == good
    assert contender.encoder.prompt(PROMPTS.rows[0].prompt) == asked[:-1]
    for evaluate in ("reference", "base"):
        assert make(f"evaluate={evaluate}", loss="csft", reference=None).control is None
    assert make().control is None


def test_answers_hold_no_special_token_but_the_end_marker(make):
    contender = make("scoring.samples_per_prompt=8")
    texts = contender.texts(PROMPTS, 1.0)
    assert [(text.prompt_id, text.rep) for text in texts] == [
        (row.prompt_id, rep) for row in PROMPTS.rows for rep in range(8)
    ]
    assert len(contender.texts(PROMPTS, 0.0)) == 2
    for text in texts:
        words = text.text.split()
        assert text.ended == (words[-1] == "<eos>")
        assert "<eos>" not in words[:-1]
        assert not {"<pad>", "<bos>", "<user>", "<bot>", "<good>", "<bad>"} & set(words)
        assert contender.tokenizer.convert_tokens_to_ids(words) == list(text.tokens)


def test_answers_of_the_reference_are_kept_for_its_other_runs(make, monkeypatch):
    contender = make(policy=1, reference=2)
    texts = contender.reference_texts(DEV, 1.0)
    other = make(policy=3, reference=2)
    monkeypatch.setattr(other, "_sample", None)  # sampling again would fail
    assert other.reference_texts(DEV, 1.0) == texts
    assert make(policy=2, reference=None).texts(DEV, 1.0) == texts


def test_the_answers_to_beat_are_those_of_the_start_where_the_reference_is_another_model(make):
    started = make(policy=1, reference=3).reference_texts(DEV, 1.0)
    contender = make(policy=1, reference=2)
    start = make(policy=3, reference=None).folder
    contender.start = start
    assert contender.reference_texts(DEV, 1.0) == started
    contender.start = contender.reference
    assert contender.reference_texts(DEV, 1.0) != started
