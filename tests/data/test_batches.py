"""The plan of the steps and the microbatches: every pair once, nothing lost to padding or to ranks."""

from collections import Counter

import numpy as np
import pytest
import torch

from halobench.data.batches import make_step, plan_steps
from halobench.data.rows import Row, Segment, batch_by_length, batch_by_prompt, pack_rows, pad_rows
from halobench.data.views import View, make_view
from halobench.feedback import Feedback, Message, response

KINDS = ("Pairs", "Binary", "Conditional", "Demonstrations")


def view(num_units, kind="Pairs", *, paired=True, absent=()):
    """A view of units that hold as many examples as they would, and nothing else."""
    size = 2 if paired and kind != "Demonstrations" else 1
    units = {i: (None,) * size for i in range(num_units) if i not in absent}
    return View(kind, units, num_units, paired)


def plan(shown, epochs, batch_pairs, *, match="pairs", seed=0):
    return plan_steps(shown, match=match, epochs=float(epochs), batch_pairs=batch_pairs, seed=seed)


def pairs_of_words(num_pairs):
    def side(i, word):
        return response((Message("user", f"q{i}"),), word, group_id="g", source="test")

    return Feedback.from_pairs([(side(i, "yes"), side(i, "no")) for i in range(num_pairs)])


def test_every_unit_is_used_once_an_epoch_in_an_order_of_its_own():
    steps = plan(view(24), 3, 6)
    assert [len(step) for step in steps] == [6] * 12
    epochs = [[unit for step in steps[i : i + 4] for unit in step] for i in (0, 4, 8)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(24))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_order_depends_on_the_seed_alone():
    assert plan(view(24), 1, 6) == plan(view(24), 1, 6)
    assert plan(view(24), 1, 6, seed=1) != plan(view(24), 1, 6)


@pytest.mark.parametrize("epochs", [1, 0.5, 2])
def test_every_kind_of_view_meets_the_same_pairs_in_the_same_steps(epochs):
    feedback = pairs_of_words(23)
    plans = [plan(make_view(feedback, kind), epochs, 4, seed=3) for kind in KINDS]
    assert plans[0] == plans[1] == plans[2] == plans[3]
    assert {unit for step in plans[0] for unit in step} <= set(range(23))


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.02])
def test_each_step_of_a_thinned_view_gets_its_share_of_the_few_labels(fraction):
    feedback = pairs_of_words(200)
    thinned = make_view(feedback, "Binary", desirable_fraction=fraction, seed=5)
    steps = plan_steps(thinned, match="pairs", epochs=2.0, batch_pairs=8, seed=0, stratified=True)
    assert Counter(unit for step in steps for unit in step) == dict.fromkeys(thinned.units, 2)
    kept = [sum(example.desirable for unit in step for example in thinned.units[unit]) for step in steps]
    share = fraction * 200 / len(steps) * 2
    assert sum(kept) == 2 * fraction * 200
    assert all(abs(count - share) <= 1 for count in kept)


def test_stratified_steps_of_a_whole_view_are_the_same_steps():
    whole = make_view(pairs_of_words(50), "Binary")
    plans = [
        plan_steps(whole, match="pairs", epochs=2.0, batch_pairs=8, seed=0, stratified=stratified)
        for stratified in (True, False)
    ]
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("epochs", "sizes"),
    [
        (1, [4, 4, 2]),
        (2, [4, 4, 4, 4, 4]),
        (0.5, [4, 1]),
        (0.25, [3]),  # 2.5 pairs: what is begun is finished
    ],
)
def test_pairs_matched_passes_over_ten_pairs(epochs, sizes):
    for kind in KINDS:
        assert [len(step) for step in plan(view(10, kind), epochs, 4)] == sizes


@pytest.mark.parametrize("match", ["pairs", "examples", "steps"])
def test_fractional_epochs_are_exact(match):
    # 1.1 * 50 is 55.00000000000001 in floating point, and 55 pairs are 11 steps
    assert [len(step) for step in plan(view(50), 1.1, 5, match=match)] == [5] * 11


def test_pairs_matched_labels_without_pairs_fill_a_step_with_twice_as_many():
    # 4 pairs a step are 8 completions
    assert [len(step) for step in plan(view(20, "Binary", paired=False), 1, 4)] == [8, 8, 4]
    # demonstrations: one completion for each pair
    assert [len(step) for step in plan(view(20, "Demonstrations", paired=False), 1, 4)] == [4] * 5


@pytest.mark.parametrize(
    ("shown", "num_steps", "per_step"),
    [
        # ceil(1.5 epochs * 10 pairs / 4 pairs a step) = 4 for each of them
        (view(10), 4, 4),
        (view(10, "Demonstrations"), 4, 4),
        (view(10, "Binary"), 4, 4),
        (view(20, "Binary", paired=False), 4, 8),
        (view(20, "Demonstrations", paired=False), 4, 4),
    ],
)
def test_steps_matched_views_take_equally_many_full_steps(shown, num_steps, per_step):
    assert [len(step) for step in plan(shown, 1.5, 4, match="steps")] == [per_step] * num_steps


@pytest.mark.parametrize(
    ("shown", "sizes"),
    [
        # 1.5 epochs of 10 pairs are 30 completions
        (view(10), [4] * 4),  # 8 completions a step
        (view(10, "Demonstrations"), [4] * 8),  # 4 completions a step
        (view(20, "Binary", paired=False), [8] * 4),
        (view(20, "Demonstrations", paired=False), [4] * 8),
    ],
)
def test_examples_matched_views_take_equally_many_completions(shown, sizes):
    steps = plan(shown, 1.5, 4, match="examples")
    assert [len(step) for step in steps] == sizes
    consumed = sum(len(shown.units[unit]) for step in steps for unit in step)
    assert 30 <= consumed < 30 + len(shown.units[steps[0][0]]) * len(steps[0])


def test_units_that_a_view_does_not_show_are_passed_over():
    shown = view(10, "Demonstrations", absent=(2, 5))
    used = Counter(unit for step in plan(shown, 1, 4) for unit in step)
    assert used == dict.fromkeys(set(range(10)) - {2, 5}, 1)


def test_a_repeated_answer_does_not_move_the_pairs_of_later_steps():
    def side(word):
        return response((Message("user", "q"),), word, group_id="g", source="test")

    # "yes" wins three times: Demonstrations and Binary show it once
    feedback = Feedback.from_pairs(
        [(side("yes"), side(f"no {i}")) for i in range(3)] + [(side("a"), side("b"))]
    )
    demonstrations = make_view(feedback, "Demonstrations")
    assert sum(len(unit) for unit in demonstrations.units.values()) == 2
    plans = [plan(make_view(feedback, kind), 2, 2, seed=5) for kind in KINDS]
    assert plans[0] == plans[1] == plans[2] == plans[3]


def test_a_step_without_anything_to_show_still_has_a_microbatch():
    step = make_step([(), ()], None, max_tokens=40)
    assert [part.rows.completion_lengths.tolist() for part in step.microbatches] == [[0, 0]]
    assert (step.num_completions, step.num_scored_tokens, step.num_tokens) == (0, 0, 0)


def row(prompt, completion, token=1, *, desirable=True, reference=None):
    """A row of `prompt` + `completion` tokens, all of them `token`."""
    return Row((token,) * prompt, (token,) * completion, desirable, reference)


def test_rows_are_padded_to_a_rectangle_with_the_prompts_first():
    rows = [
        Row((1, 2), (3, 4, 5), True, np.array([-1, -2, -3], np.float32)),
        Row((6,), (7,), False, np.array([-4], np.float32)),
    ]
    padded = pad_rows(rows)
    assert padded.input_ids.tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]
    assert padded.predictors.tolist() == [1, 2, 3, 5]  # the tokens before 3, 4, 5 and 7
    assert padded.targets.tolist() == [3, 4, 5, 7]
    assert padded.completion_lengths.tolist() == [3, 1]
    assert padded.reference.tolist() == [[-1, -2, -3], [-4, 0, 0]]
    assert padded.segments == ()
    assert pad_rows([r._replace(reference=None) for r in rows]).reference is None


def test_rows_are_packed_with_every_prompt_once():
    rows = [
        Row((1, 2), (3, 4, 5), True),
        Row((6,), (7,), False),
        Row((1, 2), (8, 9), False),  # reads the prompt of the first
        Row((1, 2), (), False),
    ]
    packed = pack_rows(rows)
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    assert packed.segments == (Segment(0, 5), Segment(5, 2), Segment(7, 2, 0, 2))
    assert packed.predictors.tolist() == [1, 2, 3, 5, 1, 7]
    assert packed.targets.tolist() == [3, 4, 5, 7, 8, 9]
    assert packed.completion_lengths.tolist() == [3, 1, 2, 0]


def test_rows_that_go_on_from_others_repeat_no_prompt():
    before = [Row((1, 2), (3, 4, 5), True), Row((6,), (7,), False)]  # tokens 0 to 6
    rows = [Row((6,), (8, 9), True), Row((1, 2), (3,), True), Row((5, 5), (4,), True)]
    packed = pack_rows(rows, after=before)
    assert packed.input_ids.tolist() == [[8, 9, 3, 5, 5, 4]]  # the third prompt was not there
    assert packed.positions.tolist() == [[1, 2, 2, 0, 1, 2]]
    assert packed.segments == (Segment(0, 2, 5, 1), Segment(2, 1, 0, 2), Segment(3, 3))
    assert packed.predictors.tolist() == [5, 7, 1, 11]


def test_a_prompt_stands_once_for_all_its_units():
    units = [(row(4, 2, token=1 + i % 2),) for i in range(6)]
    [part] = make_step(units, None, max_tokens=100).microbatches
    assert part.rows.input_ids.shape == (1, 2 * 4 + 6 * 2)
    # 3 units of a prompt are 4 + 3 * 2 tokens: two microbatches of one prompt each, not three of mixed ones
    parts = make_step(units, None, max_tokens=10).microbatches
    assert [part.rows.input_ids.unique().tolist() for part in parts] == [[1], [2]]


def test_mismatched_completions_of_a_single_microbatch_read_its_prompts():
    mismatched = [tuple(row(2, 3, r.prompt[0]) for r in unit) for unit in UNITS]
    single = make_step(UNITS, mismatched, max_tokens=1000).microbatches
    assert [part.goes_on for part in single] == [True]
    assert single[0].mismatched.input_ids.shape == (1, 3 * 14)
    # with several microbatches z0 is asked for before the first of them, unless each has its own
    several = make_step(UNITS, mismatched, max_tokens=40).microbatches
    assert {part.goes_on for part in several} == {False}
    own = make_step(UNITS, mismatched, max_tokens=40, each_reads_its_prompts=True).microbatches
    assert {part.goes_on for part in own} == {True}
    assert len(own) == len(several) > 1


UNITS = [
    (row(2, n, i + 1), row(2, n % 5 + 1, i + 1, desirable=False)) for i, n in enumerate((9, 3, 5, 1, 7, 2, 8))
]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
def test_ranks_share_a_step_without_loss(num_ranks):
    steps = [make_step(UNITS, None, max_tokens=40, rank=r, num_ranks=num_ranks) for r in range(num_ranks)]
    assert len({len(step.microbatches) for step in steps}) == 1
    seen = Counter()
    for part in [part for step in steps for part in step.microbatches]:
        rows = part.rows
        if rows.completion_lengths.sum():
            last = rows.completion_lengths.cumsum(0) - 1
            tokens = rows.targets[last].tolist()
            assert tokens[::2] == tokens[1::2]  # both sides of a pair are side by side
            assert part.desirable.tolist() == [True, False] * (len(tokens) // 2)
            seen.update(zip(tokens, rows.completion_lengths.tolist(), strict=True))
    assert seen == Counter((r.prompt[0], len(r.completion)) for unit in UNITS for r in unit)


@pytest.mark.parametrize("num_ranks", [1, 3, 8])
def test_counts_of_a_step_are_those_of_all_ranks(num_ranks):
    mismatched = [tuple(row(2, 4) for _ in unit) for unit in UNITS]
    scored = (9 + 3 + 5 + 1 + 7 + 2 + 8) + (5 + 4 + 1 + 2 + 3 + 3 + 4)
    for rank in range(num_ranks):
        step = make_step(UNITS, mismatched, max_tokens=40, rank=rank, num_ranks=num_ranks)
        assert step.num_completions == 14
        assert step.num_scored_tokens == scored
        assert step.num_tokens == (scored + 14 * 2) + 14 * 6


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("max_tokens", [1, 30, 40, 64, 1000])
def test_microbatches_respect_the_token_budget(max_tokens, packed):
    parts = make_step(UNITS, None, max_tokens=max_tokens, packed=packed).microbatches
    for part in parts:
        # a pair that is larger on its own gets a microbatch of its own
        assert part.rows.input_ids.numel() <= max_tokens or len(part.desirable) == 2
    assert len(parts) == {1: 7, 1000: 1}.get(max_tokens, len(parts))


def test_mismatched_completions_respect_the_token_budget_too():
    units = [(row(2, 2),) for _ in range(8)]
    mismatched = [(row(2, 18),) for _ in range(8)]
    for part in make_step(units, mismatched, max_tokens=40, packed=False).microbatches:
        assert part.mismatched.input_ids.numel() <= 40
    for part in make_step(units, mismatched, max_tokens=50).microbatches:
        assert part.rows.input_ids.numel() + part.mismatched.input_ids.numel() <= 50


def test_mismatched_completions_travel_with_their_rows():
    mismatched = [tuple(row(3, 1, r.prompt[0]) for r in unit) for unit in UNITS]
    for part in make_step(UNITS, mismatched, max_tokens=60, packed=False).microbatches:
        assert part.mismatched.input_ids[:, 0].tolist() == part.rows.input_ids[:, 0].tolist()
    for part in make_step(UNITS, mismatched, max_tokens=60).microbatches:
        rows, others = part.rows, part.mismatched
        last = rows.completion_lengths.cumsum(0) - 1
        assert others.targets.tolist() == rows.targets[last].tolist()  # one token each


def test_a_rank_without_units_has_something_to_compute_and_nothing_to_score():
    step = make_step(UNITS[:1], [tuple(UNITS[0])], max_tokens=40, rank=1, num_ranks=2)
    [part] = step.microbatches
    assert part.rows.completion_lengths.tolist() == part.mismatched.completion_lengths.tolist() == [0, 0]
    assert part.desirable.tolist() == [True, False]  # a loss that averages by label divides by no zero
    assert step.num_completions == 2


def test_a_step_moves_to_a_device_whole():
    rows = [row(1, 2, reference=np.zeros(2, np.float32))]
    step = make_step([rows], [rows], max_tokens=10).to(torch.device("meta"))
    [part] = step.microbatches
    tensors = [part.desirable]
    for side in (part.rows, part.mismatched):
        tensors += [side.input_ids, side.positions, side.predictors, side.targets]
        tensors += [side.completion_lengths, side.reference]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_batches_by_length_hold_every_row_once_within_the_budget():
    rows = [row(1, n) for n in (5, 1, 9, 2, 2, 30, 7, 1)]
    parts = list(batch_by_length(rows, 20))
    assert sorted(index for part in parts for index in part) == list(range(8))
    lengths = [[rows[index].length for index in part] for part in parts]
    # sorted: 2 2 3 3 6 8 10 31; widest times rows at most 20, one that is larger alone
    assert lengths == [[2, 2, 3, 3], [6, 8], [10], [31]]
    assert list(batch_by_length([], 20)) == []


def test_batches_by_prompt_count_a_prompt_once():
    rows = [
        row(6, 2, token=1),
        row(3, 4, token=2),
        row(6, 1, token=1),
        row(3, 4, token=2),
        row(6, 9, token=1),
    ]
    # prompts of 3 tokens first: 3 + 4 + 4 = 11 and a prompt of 6 with 2 more makes 19; 1 more still fits
    assert list(batch_by_prompt(rows, 20)) == [[1, 3, 0, 2], [4]]
    assert list(batch_by_prompt(rows, 11)) == [[1, 3], [0, 2], [4]]  # the last is larger alone
    assert list(batch_by_prompt([], 20)) == []
