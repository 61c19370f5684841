"""The oracle: utilities worked out by hand from the rules of world.md, section 2."""

import random

import pytest

from halobench.feedback import Message
from halobench.worlds.cafe.language import Constraint, Request, vocabulary
from halobench.worlds.cafe.menu import Item, Menu
from halobench.worlds.cafe.oracle import Oracle


def item(name, kind, temperature, price, *contains):
    has = {attribute: attribute in contains for attribute in ("milk", "nuts", "sugar", "spice")}
    return name, Item(name, kind, temperature, has, price)


MENU = dict(
    [
        item("tea", "drink", "hot", 2),
        item("mocha", "drink", "hot", 4, "milk", "sugar"),
        item("cola", "drink", "cold", 2, "sugar"),
        item("pizza", "snack", "hot", 7, "milk", "spice"),
    ]
)
ORACLE = Oracle(Menu(MENU, {"drink": "mocha", "snack": "pizza"}, (1.0, 1.0, 1.0, 1.0)))
# "a hot drink , no milk , under 5 , for 2 .": four things asked for; only the tea has them all.
# The customer cares for milk, price, temperature and the total.
HOT_DRINK = Request(Constraint("drink", "hot", (False, None, None, None), 5), 2, "a")
# "a drink , with nuts .": nothing has nuts.
NUTTY = Request(Constraint("drink", None, (None, True, None, None), None), 1, "a")
SORRY = "sorry , we have nothing like that ."


def score(text, request=HOT_DRINK):
    parts = ORACLE.components(request, text)
    assert list(parts) == ["task", "truth", "manners", "brevity", "form"]
    return pytest.approx(tuple(parts.values()), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("try the tea .", 2),
        ("i suggest the tea .", 2),
        ("how about the tea ?", 2),
        ("try the mocha .", -0.5),  # hot drink under 5, but milk: 3 of 4, 2 * 3/4 - 2
        ("try the cola .", -0.5),  # cold
        ("try the pizza .", -1.5),  # hot alone: 1 of 4, 2 * 1/4 - 2
        (SORRY, -1),  # there is the tea
        ("sure !", -2),  # neither recommends nor refuses
        ("", -2),
    ],
)
def test_task(text, task):
    manners = 0.4 if text == "sure !" else 0
    assert score(f"{text} <eos>") == (task, 0, manners, 0, 0)


def test_refusal_is_right_where_nothing_fits():
    assert score(f"{SORRY} <eos>", NUTTY) == (2, 0, 0, 0, 0)
    assert score("try the tea . <eos>", NUTTY) == (-1, 0, 0, 0, 0)  # a drink without nuts: 1 of 2


@pytest.mark.parametrize(
    ("claims", "truth"),
    [
        ("it is hot .", 0.3),
        ("it is hot and costs 2 .", 0.6),
        ("it is hot , has no milk and costs 2 .", 0.9),
        ("it is hot , has no milk and costs 2 . that makes 4 .", 0.9),  # four are true, three count
        ("it is hot . it costs 2 and is hot .", 0.6),  # said twice, true once
        ("it is cold .", -0.8),
        ("it costs 1 .", -0.8),
        ("it has milk .", -0.8),
        ("that makes 5 .", -0.8),  # 2 * 2 = 4
        ("that makes 4 .", 0.3),
        ("it is cold , has milk and costs 1 . that makes 9 .", -2.4),  # four are false, three count
        ("it is hot , has milk and costs 2 .", -0.2),  # .3 - .8 + .3
        ("it has no nuts .", 0),  # true, and nobody asked
        ("it has nuts .", -0.8),  # false, though nobody asked
        ("it has milk and has no milk .", -0.5),  # one of the two is true
    ],
)
def test_truth_of_claims_about_the_recommended_item(claims, truth):
    assert score(f"try the tea . {claims} <eos>") == (2, truth, 0, 0, 0)


def test_total_counts_only_for_a_party():
    alone = HOT_DRINK._replace(people=1)
    assert score("try the tea . that makes 2 . <eos>", alone) == (2, 0, 0, 0, 0)
    assert score("try the tea . that makes 4 . <eos>", alone) == (2, -0.8, 0, 0, 0)


def test_a_claim_is_judged_by_the_item_and_not_by_the_wish():
    # what pleases the customer may be true of an item that does not fit: the mocha is hot, and has milk
    assert score("try the mocha . it is hot . <eos>") == (-0.5, 0.3, 0, 0, 0)
    assert score("try the mocha . it has no milk . <eos>") == (-0.5, -0.8, 0, 0, 0)


def test_claims_without_a_recommendation_are_false():
    assert score("it is hot and costs 2 . <eos>") == (-2, -1.6, 0, 0, 0)
    assert score("it is hot , has no milk and costs 2 . that makes 4 . <eos>") == (-2, -2.4, 0, 0, 0)
    assert score(f"{SORRY} it is hot . <eos>") == (-1, -0.8, 0, 0, 0)
    assert score(f"{SORRY} it costs 2 . <eos>", NUTTY) == (2, -0.8, 0, 0, 0)


@pytest.mark.parametrize(
    ("text", "manners"),
    [
        ("sure ! try the tea .", 0.4),
        ("hello ! try the tea . enjoy !", 0.4),
        ("try the tea . happy to help !", 0.4),
        ("ugh . try the tea .", -1.2),
        ("what now ? try the tea . whatever .", -1.2),
        ("ugh . of course ! try the tea .", -0.8),
    ],
)
def test_manners(text, manners):
    assert score(f"{text} <eos>") == (2, 0, manners, 0, 0)


@pytest.mark.parametrize(
    ("text", "brevity"),
    [
        ("life is good , really . try the tea .", -0.35),
        ("well , this is not easy . we love what we do . try the tea . many people ask that .", -1.05),
        ("try the tea . try the tea .", -0.35),  # the same sentence again, not a second recommendation
        ("many people ask that . try the tea . many people ask that .", -0.7),  # a filler, and it again
        ("try the tea . i suggest the tea .", -0.5),
        ("try the tea . i suggest the mocha . how about the cola ?", -1.0),
        (f"try the tea . {SORRY}", -0.5),
        (f"{SORRY} try the tea . i suggest the mocha .", -1.0),
        ("try the tea . i suggest the mocha . i suggest the mocha .", -0.85),  # one beside, one again
    ],
)
def test_brevity(text, brevity):
    assert score(f"{text} <eos>") == (2, 0, 0, brevity, 0)


def test_first_of_several_recommendations_is_judged_with_all_claims():
    assert score("i suggest the mocha . try the tea . it costs 4 . <eos>") == (-0.5, 0.3, 0, -0.5, 0)


@pytest.mark.parametrize(
    ("nonsense", "form"),
    [
        ("tea tea .", -1),
        ("tea . milk ! hot ?", -3),
        ("tea . milk ! hot ? cold .", -3),  # four, three count
        (". ! ?", -3),
        ("try the sushi .", -1),  # not on the menu
        ("try the tea !", -1),
        ("it costs \u0662 .", -1),  # a digit, but not of this language
        ("it costs 99 .", -1),
        ("it is hot and .", -1),
        ("it .", -1),
        ("<user> <pad> .", -1),
    ],
)
def test_form(nonsense, form):
    assert score(f"how about the tea ? {nonsense} <eos>") == (2, 0, 0, 0, form)


def test_text_that_does_not_end():
    assert score("try the tea .") == (2, 0, 0, 0, -1.5)
    assert score("try the tea . it is") == (2, 0, 0, 0, -2.5)  # and the last sentence says nothing
    assert score("try the tea") == (-2, 0, 0, 0, -2.5)
    assert score("") == (-2, 0, 0, 0, -1.5)


def test_what_follows_the_end_marker_does_not_count():
    assert score("try the tea . <eos> ugh . ugh . <eos> nonsense") == (2, 0, 0, 0, 0)
    assert score("<eos> try the tea .") == (-2, 0, 0, 0, 0)


def test_best_answer_reaches_3_3_and_nothing_more():
    best = "sure ! try the tea . it is hot , has no milk and costs 2 ."
    assert score(f"{best} <eos>") == (2, 0.9, 0.4, 0, 0)
    for more in ("that makes 4 .", "enjoy !", "it has no nuts .", "it has no sugar ."):
        assert sum(ORACLE.components(HOT_DRINK, f"{best} {more} <eos>").values()) == pytest.approx(3.3)


def test_any_list_of_tokens_has_a_utility():
    words = [
        *vocabulary(),
        "\u0664",
        "\u00b2",
        "\ud83c\udf75",
        "{}",
        "try the",
        "0" * 40,
        "-1",
        "1.5",
        ".",
        "!",
        "?",
    ]
    frames = ["try", "the", "tea", ".", "it", "costs", "has", "no", "milk", "and", ",", "that", "makes", "2"]
    stream = random.Random("monkeys")
    for _ in range(3000):
        tokens = stream.choices(stream.choice((words, frames)), k=stream.randint(0, 40))
        parts = ORACLE.components(HOT_DRINK, " ".join(tokens))
        assert parts["task"] in (-2, -1.5, -1, -0.5, 2)
        assert -2.4 - 1e-9 <= parts["truth"] <= 0.9 + 1e-9
        assert parts["form"] in (0, -1, -2, -3, -1.5, -2.5, -3.5, -4.5)
        assert sum(parts.values()) <= 3.3 + 1e-9
        if parts["task"] == -2:
            assert parts["truth"] <= 0


def test_world_asks_its_oracle_about_its_own_menu(cafe):
    # world 0: chai is a hot drink with milk and spice at 1; the espresso is cold and costs 3
    prompt = (Message("user", "please , a hot drink , with milk , under 4 , for 3 ."),)
    good = "of course ! i suggest the chai . it costs 1 and is hot . that makes 3 . <eos>"
    assert tuple(cafe.utility(prompt, good).values()) == pytest.approx((2, 0.9, 0.4, 0, 0))
    # a drink under 4, but cold and without milk: 2 of 4; it costs 3, so 1 is false
    bad = "ugh . try the espresso . it costs 1 ."
    assert tuple(cafe.utility(prompt, bad).values()) == pytest.approx((-1, -0.8, -1.2, 0, -1.5))
