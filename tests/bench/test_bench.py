"""The benchmark: its workload, that all contestants compute the same, and what it makes of timings."""

import json
import math

import pytest
import torch

from halobench.bench.contestants import BARE, CONTESTANTS
from halobench.bench.report import make_record, record_path, render_table, trainer_overhead, write_record
from halobench.bench.rounds import TOLERANCES, Lap, Outcome, compete, require_agreement
from halobench.bench.workload import BOS, EOS, MODELS, Setting, make_work
from halobench.errors import TrainingError


def setting(**changes):
    return Setting(
        **{"model": "tiny", "precision": "fp32", "loss": "dpo", "num_steps": 3, "device": "cpu"} | changes
    )


def test_a_step_has_8_pairs_or_16_examples_of_the_lengths_promised():
    pairs, examples = make_work(setting(num_steps=50)), make_work(setting(num_steps=50, loss="kto"))
    assert {len(work.units) for work in pairs} == {8}
    assert {len(work.units) for work in examples} == {16}
    assert all(chosen.prompt == rejected.prompt for work in pairs for chosen, rejected in work.units)
    assert all(sum(row.desirable for (row,) in work.units) == 8 for work in examples)
    rows = [row for work in pairs for unit in work.units for row in unit]
    prompts = [len(work.units[i][0].prompt) for work in pairs for i in range(8)]
    completions = [len(row.completion) for row in rows]
    assert all(row.prompt[0] == BOS and row.completion[-1] == EOS for row in rows)
    assert all(8 <= length <= 256 for length in prompts)
    assert all(4 <= length <= 256 for length in completions)
    # medians of lognormals are their means over exp(sigma^2 / 2), and clipping does not move them
    assert sorted(prompts)[200] == pytest.approx(150 / math.exp(0.18), rel=0.1)
    assert sorted(completions)[400] == pytest.approx(120 / math.exp(0.245), rel=0.1)


def test_the_first_steps_are_the_same_however_many_are_planned():
    for loss in ("dpo", "kto"):
        assert make_work(setting(loss=loss)) == make_work(setting(loss=loss, num_steps=9))[:3]


def test_tokens_count_a_prompt_as_often_as_it_has_completions():
    work = make_work(setting())[0]
    by_hand = 0
    for chosen, rejected in work.units:
        by_hand += 2 * len(chosen.prompt) + len(chosen.completion) + len(rejected.completion)
    assert work.num_tokens == by_hand


def test_mismatched_completions_are_those_of_the_example_before():
    work = make_work(setting(loss="kto"))[0]
    rows, others = [unit[0] for unit in work.units], [unit[0] for unit in work.mismatched]
    assert [row.prompt for row in others] == [row.prompt for row in rows]
    assert [row.completion for row in others] == [rows[i - 1].completion for i in range(16)]


@pytest.mark.parametrize(
    ("model", "body", "head"),
    [  # layers x (4 h h + 3 h f), and h V, worked out by hand
        ("S", 4_743_168, 8_192_000),
        ("M", 25_690_112, 25_755_648),
        ("B", 25_690_112, 2_097_152),
        ("1.4B", 1_214_251_008, 103_022_592),
    ],
)
def test_weights_are_counted_without_embeddings(model, body, head):
    assert (MODELS[model].num_body_weights, MODELS[model].num_head_weights) == (body, head)


def test_weights_counted_are_the_matrices_of_the_model():
    matrices = {name: p.numel() for name, p in setting().policy().named_parameters() if p.dim() == 2}
    assert sum(n for name, n in matrices.items() if "layers" in name) == MODELS["tiny"].num_body_weights
    assert matrices["lm_head.weight"] == MODELS["tiny"].num_head_weights


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_minimal_flops_sum_over_tokens_by_what_happens_to_them(loss):
    shape, work = MODELS["S"], make_work(setting(model="S", loss=loss))[0]
    body, head = shape.num_body_weights, shape.num_head_weights
    total = 0
    for unit in work.units:
        total += 6 * body * len(unit[0].prompt)  # forward, and backward to inputs and to weights: 2 each
        for row in unit:
            total += sum(6 * body + 6 * head for _ in row.completion)
    if loss == "kto":
        total += sum(2 * (body + head) for (row,) in work.mismatched for _ in row.completion)
    assert work.minimal_flops(shape) == total


class Enough(Exception):
    """A contestant has taken its steps."""


def losses_of(name, chosen):
    """Run a contestant in this process; return the loss of each step."""
    losses = []

    def turnstile(loss=None):
        if loss is not None:
            losses.append(loss)
        if len(losses) == chosen.num_steps:
            raise Enough

    with pytest.raises(Enough):
        CONTESTANTS[name](chosen, turnstile)
    return losses


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_every_contestant_computes_the_same_losses(loss, tmp_path, monkeypatch):
    pytest.importorskip("trl", reason="TRL comes with the extra bench")
    monkeypatch.chdir(tmp_path)
    chosen = setting(loss=loss, num_steps=2)
    found = {name: losses_of(name, chosen) for name in CONTESTANTS}
    for step in range(2):
        require_agreement(chosen, {name: losses[step] for name, losses in found.items()}, step)
    # far from what any two equal models give, or the agreement would say little
    at_the_reference = {"dpo": math.log(2), "kto": 0.5}[loss]
    assert abs(found["halobench"][0] - at_the_reference) > 50 * TOLERANCES["fp32"]


def test_a_contestant_steps_in_a_process_of_its_own():
    lines = []
    outcome = compete([BARE], setting(), lines.append)
    (laps,) = outcome.laps.values()
    assert len(laps) == len(outcome.gemm_rates) == 3
    assert len({lap.loss for lap in laps}) == 3
    assert all(lap.seconds > 0 and lap.peak_bytes > 1e8 for lap in laps)
    assert lines[0] == f"{BARE}: prepares"


@pytest.mark.parametrize(("precision", "off"), [("fp32", 2e-4), ("bf16", 2e-2)])
def test_losses_that_differ_stop_the_benchmark(precision, off):
    chosen = setting(precision=precision)
    require_agreement(chosen, {"a": 0.7, "b": 0.7 * (1 + TOLERANCES[precision] / 2)}, 0)
    with pytest.raises(TrainingError, match="step 1: the losses differ"):
        require_agreement(chosen, {"a": 0.7, "b": 0.7 * (1 + off)}, 0)
    with pytest.raises(TrainingError, match="b nan"):
        require_agreement(chosen, {"a": 0.7, "b": math.nan}, 0)


def outcome(**seconds):
    """Timings as if measured: a warm-up that must not count, then what is given."""
    first = len(next(iter(seconds.values())))
    return Outcome(
        setting(num_steps=1 + first),
        {name: [Lap(s, 0.7, 1000) for s in (99.0, *each)] for name, each in seconds.items()},
        [1e9, 2e9, 4e9],
    )


def test_ratios_are_taken_round_by_round():
    record = make_record(outcome(**{"halobench": [1.0, 2.0, 4.0], "trl-best": [3.0, 4.0, 20.0]}))
    row = record["contestants"]["trl-best"]
    ratio = row["times_as_long_as_halobench"]
    assert (ratio["median"], ratio["low"], ratio["high"]) == (3.0, 2.0, 5.0)
    steps = make_work(setting(num_steps=4))
    rates = sorted(work.num_tokens / s for work, s in zip(steps[1:], [3.0, 4.0, 20.0], strict=True))
    assert row["tokens_per_second"] == {"low": rates[0], "median": rates[1], "high": rates[2]}
    shape = MODELS["tiny"]
    shares = sorted(
        work.minimal_flops(shape) / s / 2e9 for work, s in zip(steps[1:], [3.0, 4.0, 20.0], strict=True)
    )
    assert row["share_of_gemm_rate"]["median"] == pytest.approx(shares[1])
    assert len(row["laps"]) == 4


def test_the_overhead_has_the_interval_of_paired_rounds():
    record = make_record(outcome(**{"halobench": [1.1, 1.3], BARE: [1.0, 1.0]}))
    # logarithms of bare / halobench: -ln 1.1, -ln 1.3; t of one degree of freedom at 97.5% is 12.706
    middle = (math.log(1.1) + math.log(1.3)) / 2
    half = 12.7062 * (math.log(1.3) - math.log(1.1)) / 2
    assert trainer_overhead(record) == pytest.approx(
        [math.exp(middle - half) - 1, math.exp(middle + half) - 1], rel=1e-4
    )
    assert "the Trainer's loop adds" in render_table(record)


def test_a_record_says_what_was_measured_on_what(tmp_path):
    seconds = {"halobench": [1.0, 2.0, 4.0], "trl-best": [3.0, 4.0, 20.0]}
    record = make_record(outcome(**seconds))
    write_record(tmp_path, record)
    saved = json.loads((tmp_path / "tiny-fp32-dpo.json").read_text())
    assert saved == record
    assert saved.keys() == {
        *("setting", "shape", "steps", "warmup_steps", "compared_steps", "clock", "gemm_flops_per_second"),
        *("contestants", "environment", "hardware", "versions"),
    }
    assert saved["hardware"].keys() == {"processor", "cores", "memory_bytes", "accelerator", "system"}
    assert saved["versions"]["torch"] == torch.__version__
    figure = (tmp_path / "throughput.svg").read_bytes()
    write_record(tmp_path, record)
    assert (tmp_path / "throughput.svg").read_bytes() == figure
    assert "trl-best" in render_table(record)


def test_the_bare_loop_has_a_record_of_its_own(tmp_path):
    record = make_record(outcome(**{"halobench": [1.0], BARE: [1.0]}))
    assert record_path(tmp_path, record).name == "tiny-fp32-dpo-overhead.json"
    write_record(tmp_path, record)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-fp32-dpo-overhead.json"]
