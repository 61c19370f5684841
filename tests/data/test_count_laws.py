"""Laws of the views that hold whatever the feedback: how many of what, and what is a part of what."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from halobench.data.views import make_view
from halobench.feedback import Feedback, Message, response

SHARES = st.floats(0.01, 1)
SEEDS = st.integers(0, 3)
UNPAIRED = st.sampled_from(["Binary", "Conditional"])


def answer(question, text, source):
    return response((Message("user", question),), f"{source} {text}", group_id=question, source=source)


@st.composite
def feedbacks(draw):
    """Pairs of up to five prompts, with up to five answers each, of up to two data sets."""
    sides = st.lists(st.integers(0, 4), min_size=2, max_size=2, unique=True)
    drawn = draw(
        st.lists(st.tuples(st.integers(0, 4), sides, st.sampled_from("ab")), min_size=1, max_size=25)
    )
    return Feedback.from_pairs(
        [
            (answer(f"q{number}", better, source), answer(f"q{number}", worse, source))
            for number, (better, worse), source in drawn
        ]
    )


def shown(feedback, kind, **options):
    """Distinct (answer, label) of a view, and how often each is shown."""
    view = make_view(feedback, kind, **options)
    return Counter((row.response.response_id, row.desirable) for row in view.examples)


def winners(feedback):
    return {(pair.winner, True) for pair in feedback.pairs}


def losers(feedback):
    return {(pair.loser, False) for pair in feedback.pairs}


@given(feedbacks())
def test_the_paired_view_has_every_pair(feedback):
    view = make_view(feedback, "Pairs")
    assert len(view.units) == view.num_base_units == feedback.fingerprint.num_pairs
    assert [tuple(row.response.response_id for row in unit) for unit in view.units.values()] == [
        (pair.winner, pair.loser) for pair in feedback.pairs
    ]


@given(feedbacks(), UNPAIRED)
def test_the_unpaired_view_has_distinct_winners_and_losers(feedback, kind):
    found = shown(feedback, kind)
    assert found == dict.fromkeys(winners(feedback) | losers(feedback), 1)
    assert len(found) <= 2 * len(feedback.pairs)
    assert len(winners(feedback)) == feedback.fingerprint.num_desirable
    assert len(losers(feedback)) == feedback.fingerprint.num_undesirable


@given(feedbacks())
def test_demonstrations_are_the_distinct_winners(feedback):
    assert shown(feedback, "Demonstrations") == dict.fromkeys(winners(feedback), 1)


@given(feedbacks(), UNPAIRED, SEEDS)
def test_one_answer_per_prompt_is_one_of_each_prompt(feedback, kind, seed):
    view = make_view(feedback, kind, one_per_prompt=True, seed=seed)
    prompts = Counter(row.response.prompt_id for row in view.examples)
    assert prompts == dict.fromkeys({pair.prompt_id for pair in feedback.pairs}, 1)
    assert shown(feedback, kind, one_per_prompt=True, seed=seed).keys() <= shown(feedback, kind).keys()


@given(feedbacks(), SHARES, SHARES, SEEDS)
def test_fractions_are_of_each_label_of_each_data_set(feedback, desirable, undesirable, seed):
    found = make_view(
        feedback, "Binary", desirable_fraction=desirable, undesirable_fraction=undesirable, seed=seed
    )
    kept = Counter((row.response.source, row.desirable) for row in found.examples)
    whole = Counter((row.response.source, row.desirable) for row in make_view(feedback, "Binary").examples)
    for (source, label), count in whole.items():
        fraction = desirable if label else undesirable
        assert kept[source, label] == math.ceil(fraction * count - 1e-9)


@given(
    feedbacks(),
    SHARES,
    SHARES,
    SEEDS,
    st.sampled_from(["Pairs", "Binary", "Demonstrations"]),
    st.sampled_from([["fraction"], ["desirable_fraction", "undesirable_fraction"]]),
)
def test_less_is_a_part_of_more(feedback, one, other, seed, kind, keys):
    few, many = sorted((one, other))
    views = [make_view(feedback, kind, **{key: share for key in keys}, seed=seed) for share in (few, many)]
    assert views[0].units.keys() <= views[1].units.keys()
    assert set(views[0].examples) <= set(views[1].examples)


@given(feedbacks(), st.floats(0, 1), st.floats(0, 1), SEEDS)
def test_noise_is_a_share_of_each_data_set_and_less_a_part_of_more(feedback, one, other, seed):
    def wrong(share):
        units = make_view(feedback, "Pairs", label_noise=share, seed=seed).units
        return {
            number
            for number, pair in enumerate(feedback.pairs)
            if units[number][0].response.response_id == pair.loser
        }

    few, many = sorted((one, other))
    assert wrong(few) <= wrong(many)
    sources = [feedback.responses[pair.winner].source for pair in feedback.pairs]
    for source in set(sources):
        turned = sum(sources[number] == source for number in wrong(many))
        assert turned == math.ceil(many * sources.count(source) - 1e-9)


@given(feedbacks(), st.floats(0, 0.5), st.floats(0, 0.5), SEEDS)
def test_contradicting_annotations_are_added_and_fewer_are_a_part_of_more(feedback, one, other, seed):
    def seconds(share):
        units = make_view(feedback, "Pairs", contradicting_share=share, seed=seed).units
        assert list(make_view(feedback, "Pairs").units.items()) == list(units.items())[: len(feedback.pairs)]
        return Counter(
            tuple(row.response.response_id for row in unit)
            for number, unit in units.items()
            if number >= len(feedback.pairs)
        )

    few, many = sorted((one, other))
    assert not seconds(few) - seconds(many)
    turned = Counter((pair.loser, pair.winner) for pair in feedback.pairs)
    assert not seconds(many) - turned
    assert not turned - seconds(0.5)


@given(feedbacks(), st.integers(0, 25), st.integers(0, 25), SEEDS)
def test_every_kind_has_the_same_base_units(feedback, noise, contradicting, seed):
    options = {"label_noise": noise / 25, "contradicting_share": contradicting / 50, "seed": seed}
    views = {
        kind: make_view(feedback, kind, **options)
        for kind in ("Pairs", "Binary", "Conditional", "Demonstrations")
    }
    assert len({view.num_base_units for view in views.values()}) == 1
    pairs = views["Pairs"].units
    for kind in ("Binary", "Conditional"):
        assert {e for unit in pairs.values() for e in unit} == set(views[kind].examples)
        assert all(set(unit) <= set(pairs[number]) for number, unit in views[kind].units.items())
    assert {unit[0] for unit in pairs.values()} == set(views["Demonstrations"].examples)
