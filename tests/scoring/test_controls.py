"""Permanent controls of the scorers: the preferred meet themselves at .5, no constant reply comes first."""

import pytest

from halobench.feedback import PromptSet
from halobench.scoring.alpaca_eval import AlpacaEvalScorer
from halobench.scoring.oracle import OracleScorer
from halobench.worlds.cafe import Cafe
from tests.scoring.conftest import DEV, values

WORLD = Cafe(0)
PROMPTS = PromptSet(WORLD.prompt_set("test").rows[:64])
NULL = ("", "hello", "sorry , we have nothing like that .", "try the chai .", "hello ! try the chai .")


@pytest.fixture
def winrate(make, scripted):
    """Win rate at T=1 of a policy that gives some answers, prompt by prompt."""

    def measure(answers, scorer=OracleScorer, metric="winrate"):
        contender = make(reference=None, prompts=PROMPTS)
        answered = zip((row.prompt_id for row in PROMPTS.rows), answers, strict=True)
        said = {name: [f"{text} <eos>".strip() for text in texts] for name, texts in answered}
        said["dev"] = [f"{DEV.rows[0].chosen[0]} <eos>"] * len(answers[0])
        scripted(contender, {1.0: said, 0.0: {name: texts[:1] for name, texts in said.items()}})
        return values(scorer().score(contender))["T=1", metric]

    return measure


def test_the_preferred_answers_win_half_against_themselves(winrate):
    assert winrate([row.chosen for row in PROMPTS.rows]) == pytest.approx(0.5, abs=1e-9)
    first = [row.chosen[:1] for row in PROMPTS.rows]
    assert winrate(first, metric="winrate_first") == 0.5
    assert winrate(first, AlpacaEvalScorer) == 0.5


@pytest.mark.parametrize("scorer", [OracleScorer, AlpacaEvalScorer])
def test_no_constant_reply_comes_before_what_the_staff_says(winrate, scorer):
    answers = WORLD.best_of([row.prompt for row in PROMPTS.rows], 1, seed=5)
    staff = winrate([[answer] for answer in answers], scorer)
    for reply in NULL:
        assert winrate([[reply]] * len(PROMPTS.rows), scorer) < staff - 0.05
    assert staff < 0.5  # annotators had a choice of two
