"""Views: what each kind of loss is shown of the same rows, and the completions that z0 is measured on."""

from collections import Counter
from itertools import pairwise

import pytest

from halobench.data.views import derange, make_view
from halobench.errors import DataError
from halobench.feedback import Feedback, Message, response

KINDS = ("Pairs", "Binary", "Conditional", "Demonstrations")


def answer(question, text):
    return response((Message("user", question),), text, group_id=question, source="test")


def texts(view):
    """Completion and label of every example, unit by unit."""
    return [[(row.response.completion, row.desirable) for row in unit] for unit in view.units.values()]


def plain_pairs(num_pairs):
    """Pairs in which no answer occurs twice."""
    return Feedback.from_pairs(
        [(answer(f"q{i}", f"w{i}"), answer(f"q{i}", f"l{i}")) for i in range(num_pairs)]
    )


@pytest.fixture
def repeats():
    """Four pairs of one prompt: `a` wins twice, `c` loses twice, `b` wins once and loses once."""
    a, b, c = (answer("q", text) for text in "abc")
    return Feedback.from_pairs([(a, b), (b, c), (a, c), (answer("p", "a"), answer("p", "c"))])


def test_paired_view_has_every_pair(repeats):
    view = make_view(repeats, "Pairs")
    assert texts(view) == [
        [("a", True), ("b", False)],
        [("b", True), ("c", False)],
        [("a", True), ("c", False)],
        [("a", True), ("c", False)],
    ]
    assert view.paired
    assert view.completions_per_unit == 2
    assert len(list(view.examples)) == 8


@pytest.mark.parametrize("kind", ["Binary", "Conditional"])
def test_unpaired_view_has_each_distinct_winner_and_loser_once(repeats, kind):
    view = make_view(repeats, kind)
    assert texts(view) == [
        [("a", True), ("b", False)],
        [("b", True), ("c", False)],  # b is said to be both, and is shown as both
        [],  # a won already, c lost already
        [("a", True), ("c", False)],  # the same words, but to another prompt
    ]
    counts = Counter(row.desirable for row in view.examples)
    # distinct winners: a and b to q, a to p; distinct losers: b and c to q, c to p
    assert counts == {True: repeats.fingerprint.num_desirable, False: repeats.fingerprint.num_undesirable}
    assert counts == {True: 3, False: 3}


def test_demonstrations_are_the_distinct_winners(repeats):
    assert texts(make_view(repeats, "Demonstrations")) == [[("a", True)], [("b", True)], [], [("a", True)]]


def test_every_kind_has_the_same_units():
    feedback = plain_pairs(5)
    views = {kind: make_view(feedback, kind) for kind in KINDS}
    both = [[(f"w{i}", True), (f"l{i}", False)] for i in range(5)]
    assert texts(views["Pairs"]) == texts(views["Binary"]) == texts(views["Conditional"]) == both
    assert texts(views["Demonstrations"]) == [unit[:1] for unit in both]


def completions(view):
    """Completions of each label that a view shows."""
    found = {True: set(), False: set()}
    for row in view.examples:
        found[row.desirable].add(row.response.completion)
    return found


def thinned(kind, desirable, undesirable, *, num_pairs=100, seed=0):
    return make_view(
        plain_pairs(num_pairs),
        kind,
        desirable_fraction=desirable,
        undesirable_fraction=undesirable,
        seed=seed,
    )


@pytest.mark.parametrize("fraction", [0.005, 0.1, 0.255, 1])
def test_a_fraction_is_of_the_units_and_the_same_ones_for_every_kind(fraction):
    feedback = plain_pairs(100)
    views = [make_view(feedback, kind, fraction=fraction, seed=3) for kind in KINDS]
    numbers = [list(view.units) for view in views]
    assert numbers[0] == numbers[1] == numbers[2] == numbers[3]
    assert len(numbers[0]) == {0.005: 1, 0.1: 10, 0.255: 26, 1: 100}[fraction]
    assert texts(views[0]) == [[(f"w{i}", True), (f"l{i}", False)] for i in numbers[0]]
    assert all(view.num_base_units == 100 for view in views)


def test_a_fraction_is_thinned_further_by_label():
    feedback = plain_pairs(100)
    both = make_view(feedback, "Binary", fraction=0.5, desirable_fraction=0.1, seed=3)
    found = completions(both)
    assert (len(found[True]), len(found[False])) == (5, 50)
    whole = make_view(feedback, "Binary", fraction=0.5, seed=3)
    assert both.units.keys() <= whole.units.keys()


@pytest.mark.parametrize("kind", ["Binary", "Conditional"])
@pytest.mark.parametrize(
    ("desirable", "undesirable", "counts"),
    [(1, 0.25, (100, 25)), (0.07, 1, (7, 100)), (0.101, 0.001, (11, 1)), (0.5, 0.5, (50, 50))],
)
def test_fractions_are_of_the_completions_of_a_label(kind, desirable, undesirable, counts):
    view = thinned(kind, desirable, undesirable)
    found = completions(view)
    assert (len(found[True]), len(found[False])) == counts
    assert all(view.units.values())  # what is left of nothing is not shown
    assert view.num_base_units == 100


def test_a_smaller_fraction_is_a_part_of_a_larger_one():
    shown = [completions(thinned("Binary", f, f)) for f in (0.01, 0.1, 0.3, 0.9, 1)]
    for smaller, larger in pairwise(shown):
        assert smaller[True] < larger[True]
        assert smaller[False] < larger[False]
    kept = {frozenset(completions(thinned("Binary", 0.1, 1, seed=seed))[True]) for seed in range(4)}
    assert len(kept) == 4  # another seed keeps others
    numbers = {int(text[1:]) for text in shown[2][True]}
    assert numbers != set(range(30))
    assert numbers != {int(text[1:]) for text in shown[2][False]}


def test_pairs_are_those_of_which_both_sides_are_left():
    binary, pairs = thinned("Binary", 0.6, 0.5), thinned("Pairs", 0.6, 0.5)
    left = completions(binary)
    both = {number for number, unit in binary.units.items() if len(unit) == 2}
    assert set(pairs.units) == both
    assert 15 < len(both) < 45  # 30 on average
    assert completions(pairs)[True] <= left[True]
    assert all([row.desirable for row in unit] == [True, False] for unit in pairs.units.values())


def test_demonstrations_are_the_desirable_completions_that_are_left_whatever_becomes_of_the_others():
    view = thinned("Demonstrations", 0.2, 1)
    assert completions(view) == {True: completions(thinned("Binary", 0.2, 0.4))[True], False: set()}
    assert view == thinned("Demonstrations", 0.2, 0.01)


@pytest.mark.parametrize("kind", ["Binary", "Conditional"])
def test_one_completion_of_each_prompt_is_as_often_desirable_as_not(kind):
    view = make_view(plain_pairs(101), kind, one_per_prompt=True)
    examples = list(view.examples)
    assert sorted(row.response.prompt[0].content for row in examples) == sorted(f"q{i}" for i in range(101))
    assert Counter(row.desirable for row in examples) == {True: 51, False: 50}
    others = make_view(plain_pairs(101), kind, one_per_prompt=True, seed=1)
    assert set(others.examples) != set(examples)
    demonstrations = make_view(plain_pairs(101), "Demonstrations", one_per_prompt=True)
    assert set(demonstrations.examples) == {row for row in examples if row.desirable}
    assert view.num_base_units == 101


def test_prompts_of_one_label_are_made_up_for_by_the_others():
    def rows(num, *labels):
        return [(answer(f"q{n}", f"{label}{n}"), label) for n in num for label in labels]

    feedback = Feedback.from_labels(rows(range(30), True) + rows(range(30, 100), True, False))
    view = make_view(feedback, "Binary", one_per_prompt=True)
    assert Counter(row.desirable for row in view.examples) == {True: 50, False: 50}
    thin = make_view(feedback, "Binary", one_per_prompt=True, desirable_fraction=0.1)
    assert Counter(row.desirable for row in thin.examples) == {True: 5, False: 50}


def test_one_completion_of_a_prompt_is_no_pair():
    with pytest.raises(DataError, match="leaves no pairs, and this loss needs them; use kto, csft or sft"):
        make_view(plain_pairs(3), "Pairs", one_per_prompt=True)


@pytest.mark.parametrize(("share", "num_wrong"), [(0, 0), (0.07, 7), (0.251, 26), (1, 100)])
def test_noise_turns_the_same_pairs_round_for_every_kind_of_loss(share, num_wrong):
    views = {kind: make_view(plain_pairs(100), kind, label_noise=share) for kind in KINDS}
    wrong = {n for n, unit in views["Pairs"].units.items() if unit[0].response.completion.startswith("l")}
    assert len(wrong) == num_wrong
    for number in range(100):
        good, bad = (f"l{number}", f"w{number}") if number in wrong else (f"w{number}", f"l{number}")
        for kind in ("Pairs", "Binary", "Conditional"):
            found = [(row.response.completion, row.desirable) for row in views[kind].units[number]]
            assert found == [(good, True), (bad, False)]
        assert [row.response.completion for row in views["Demonstrations"].units[number]] == [good]


def test_less_noise_is_a_part_of_more():
    def wrong(share, seed=0):
        units = make_view(plain_pairs(100), "Pairs", label_noise=share, seed=seed).units
        return {n for n, unit in units.items() if unit[0].response.completion.startswith("l")}

    assert wrong(0.1) < wrong(0.2) < wrong(0.6)
    assert wrong(0.2) != set(range(20))
    assert wrong(0.2) != wrong(0.2, seed=1)


def test_noise_on_labels_without_pairs():
    rows = [(answer(f"q{n}", "a"), n < 30) for n in range(100)]
    view = make_view(Feedback.from_labels(rows), "Binary", label_noise=0.2)
    changed = [n for (n, [row]) in view.units.items() if row.desirable is not (n < 30)]
    assert len(changed) == 20


def test_a_repeated_completion_counts_once(repeats):
    # desirable: a, b, and a of the other prompt; undesirable: b, c, and c of the other
    view = make_view(repeats, "Binary", desirable_fraction=0.34, undesirable_fraction=1)
    labels = Counter(row.desirable for row in view.examples)
    assert labels == {True: 2, False: 3}


def test_labels_without_pairs():
    rows = [
        (answer("q", "a"), True),
        (answer("q", "b"), False),
        (answer("q", "a"), True),
        (answer("p", "c"), True),
    ]
    feedback = Feedback.from_labels(rows)
    view = make_view(feedback, "Binary")
    assert texts(view) == [[("a", True)], [("b", False)], [("c", True)]]
    assert not view.paired
    assert view.completions_per_unit == 1
    demonstrations = make_view(feedback, "Demonstrations")
    assert texts(demonstrations) == [[("a", True)], [("c", True)]]
    assert list(demonstrations.units) == [0, 2]  # what the view does not show has no place in a step
    with pytest.raises(DataError, match="this loss needs pairs"):
        make_view(feedback, "Pairs")


@pytest.mark.parametrize("kind", ["Binary", "Conditional"])
def test_shuffled_labels_keep_their_counts_and_say_nothing(kind):
    given, shuffled = (make_view(plain_pairs(500), kind, labels=x, seed=1) for x in ("given", "shuffled"))
    assert [row.response for row in shuffled.examples] == [row.response for row in given.examples]
    assert Counter(row.desirable for row in shuffled.examples) == {True: 500, False: 500}
    kept = sum(a.desirable == b.desirable for a, b in zip(given.examples, shuffled.examples, strict=True))
    assert 400 < kept < 600  # 500 expected, standard deviation below 16


def test_shuffled_pairs_are_turned_by_a_coin():
    view = make_view(plain_pairs(400), "Pairs", labels="shuffled", seed=1)
    turned = 0
    for i, unit in enumerate(texts(view)):
        assert unit in ([(f"w{i}", True), (f"l{i}", False)], [(f"l{i}", True), (f"w{i}", False)])
        turned += unit[0][0] == f"l{i}"
    assert 140 < turned < 260  # 200 expected, standard deviation 10


@pytest.mark.parametrize("kind", ["Pairs", "Binary"])
def test_shuffle_depends_on_its_seed_alone(kind):
    def shuffled(seed):
        return texts(make_view(plain_pairs(30), kind, labels="shuffled", seed=seed))

    assert shuffled(1) == shuffled(1) != shuffled(2)


def test_demonstrations_ignore_a_shuffle():
    feedback = plain_pairs(30)
    assert make_view(feedback, "Demonstrations", labels="shuffled") == make_view(feedback, "Demonstrations")


def test_better_completions_replace_the_winners_one_by_one(repeats):
    asked = []

    def best(responses):
        asked.extend(row.completion for row in responses)
        return ["x", "y", "z", "x"]

    view = make_view(repeats, "Demonstrations", best=best)
    assert asked == ["a", "b", "a", "a"]
    assert texts(view) == [[("x", True)], [("y", True)], [("z", True)], [("x", True)]]
    units = [unit[0].response for unit in view.units.values()]
    assert [row.prompt[0].content for row in units] == ["q", "q", "q", "p"]
    assert len({row.response_id for row in units}) == 4


@pytest.mark.parametrize(
    "prompt_ids",
    [
        list("ab"),
        list("aabb"),
        list("aaabbc"),
        list("abcdefgh") * 3,
        [str(i % 7) for i in range(100)],
        ["a"] * 50 + [str(i) for i in range(50)],
    ],
    ids=len,
)
def test_derangement_gives_every_prompt_the_completion_of_another_one(prompt_ids):
    for seed in range(20):
        partners = derange(prompt_ids, seed)
        assert sorted(partners) == list(range(len(prompt_ids)))
        assert all(prompt_ids[i] != prompt_ids[j] for i, j in enumerate(partners))


def test_derangement_depends_on_its_seed_alone():
    prompt_ids = [str(i % 20) for i in range(60)]
    assert derange(prompt_ids, 1) == derange(prompt_ids, 1) != derange(prompt_ids, 2)


def test_derangement_spreads_the_partners():
    # over many seeds an example meets the completions of all other prompts, not of its neighbour only
    prompt_ids = [str(i) for i in range(10)]
    assert {derange(prompt_ids, seed)[0] for seed in range(200)} == set(range(1, 10))


@pytest.mark.parametrize("prompt_ids", ["a", "aa", "aab", "aaabb"])
def test_derangement_is_refused_where_one_prompt_has_more_than_half(prompt_ids):
    with pytest.raises(
        DataError, match=rf"one prompt has {prompt_ids.count('a')} of {len(prompt_ids)} examples"
    ):
        derange(list(prompt_ids), 0)
