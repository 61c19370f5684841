"""The world's judge: the annotators of its own pairs, or the true utility."""

import math
import random

import pytest

from halobench.compose import compose
from halobench.feedback import Message
from halobench.judges.base import Answer
from halobench.judges.oracle import Oracle
from halobench.materials import Materials
from halobench.worlds.cafe.oracle import Annotator

PROMPT = (Message("user", "a hot drink , under 4 ."),)
# World 0: the chai fits, the mocha is cold. Utilities: task 2; task 2 * 2/3 - 2 = -.667.
CHAI, MOCHA = "try the chai .", "try the mocha ."


@pytest.fixture
def materials(tiny_recipe):
    return Materials(compose(tiny_recipe, ["loss.name=dpo", "seed=0"]).recipes[0])


def scores(judge, materials, *answers, seed=0):
    asked = [Answer(PROMPT, text, ended) for text, ended in answers]
    return judge.scores(asked, materials, random.Random(seed))


def test_the_exact_judge_goes_by_the_true_utility(materials):
    found = scores(Oracle(exact=True), materials, (CHAI, True), (MOCHA, True), (CHAI, False))
    assert found == pytest.approx([2, 2 * 2 / 3 - 2, 2 - 1.5])  # an answer without an end costs 1.5


def test_the_noise_of_the_annotators_has_mean_zero(materials):
    draws = 4000
    found = scores(Oracle(), materials, *[(CHAI, True)] * draws)
    # they like length: .06 for each of the 4 tokens; a Gumbel of scale .5 has the deviation .5 pi / sqrt 6
    assert sum(found) / draws == pytest.approx(2 + 4 * 0.06, abs=4 * 0.5 * math.pi / math.sqrt(6 * draws))


def test_answers_are_chosen_as_often_as_in_the_pairs_of_the_world(materials):
    draws = 4000
    long = f"{MOCHA} that is my favourite , really ."
    found = scores(Oracle(), materials, *[(CHAI, True), (long, True)] * draws)
    share = sum(a > b for a, b in zip(found[::2], found[1::2], strict=True)) / draws
    world = materials.world
    gap = 2 - sum(world.utility(PROMPT, f"{long} <eos>").values()) + 0.06 * (4 - len(long.split()))
    chance = 1 / (1 + math.exp(-gap / 0.5))
    assert share == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / draws))


def test_a_close_choice_is_as_uncertain_as_the_annotators_are():
    annotator, stream, draws = Annotator(), random.Random(1), 4000
    wins = sum(0.3 + annotator.noise(stream) > annotator.noise(stream) for _ in range(draws))
    chance = 1 / (1 + math.exp(-0.3 / 0.5))  # .646
    assert wins / draws == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / draws))


def test_the_same_stream_gives_the_same_verdicts(materials):
    answers = [(CHAI, True), (MOCHA, False)]
    assert scores(Oracle(), materials, *answers) == scores(Oracle(), materials, *answers)
    assert scores(Oracle(), materials, *answers) != scores(Oracle(), materials, *answers, seed=1)
