"""The verb plan: what runs take, by hand from published sizes, on which device it fits, and what is wrong."""

import json

import pytest
import yaml

from halobench.cli import main
from halobench.compose import compose
from halobench.errors import RecipeError
from halobench.recipe_file import builtin_recipes

# runs of each recipe; paper: 5 losses with and without SFT, and SFT, once; fair: 6 with and without, 5 seeds
RUNS = {
    "archangel/tuning": 6 * 6 * 3,
    "llama3-8b-kto": 4,
    "mistral-oasst": 3,
    "qwen2.5-3b-kto": 2,
    "smollm-1.7b": 6 * 3,
    "smollm-135m": 6 * 3,
    "smollm-360m": 6 * 3,
    "zephyr-ultrafeedback": 3,
}
for model in (
    "pythia-1.4b",
    "pythia-2.8b",
    "pythia-6.9b",
    "pythia-12b",
    "llama-7b",
    "llama-13b",
    "llama-30b",
):
    RUNS |= {f"archangel/{model}-paper": 11, f"archangel/{model}-fair": 6 * 2 * 5}
PAIRS, PROMPT, COMPLETION = 144_720, 132, 49  # 160,800 of HH but for the tenth that is dev


def run(capsys, *arguments):
    """Exit code, output and messages of a command."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def plan(capsys, *arguments):
    """The plan as programs get it."""
    code, text, err = run(capsys, "plan", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(text)


def write(folder, **keys):
    """A recipe of Pythia 1.4B on HH, which are on no machine that tests."""
    file = folder / "mine.yaml"
    recipe = {
        "data": {"source": "hh", "max_length": 2048, "max_prompt_length": 1024},
        "model": {"path": "EleutherAI/pythia-1.4b"},
        "optim": {"lr": 1e-6},
        "precision": "bf16-mixed",
        "split_seed": 0,
        "scoring": {"scorers": ["implied_reward"]},
        "board": {"metric": "implied_reward/accuracy"},
        "matrix": {"loss": ["dpo"], "seed": [0, 1]},
    }
    file.write_text(yaml.safe_dump({**recipe, **keys}))
    return file


def forward(prompts, completions):
    """FLOPs of a forward pass of Pythia 1.4B: 24 layers of 2048, an MLP of 8192, 50,304 words."""
    body = 24 * (4 * 2048 * 2048 + 2 * 2048 * 8192)
    scored = completions * COMPLETION
    keys_read = prompts * PROMPT**2 / 2 + scored * (PROMPT + COMPLETION / 2)
    return 2 * body * (prompts * PROMPT + scored) + 2 * 2048 * 50_304 * scored + 4 * 24 * 2048 * keys_read


def test_the_table_above_has_every_recipe_of_a_published_model():
    of_own_models = {name for name in builtin_recipes() if name.startswith("studies/")} | {"quickstart"}
    assert set(builtin_recipes()) - of_own_models == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_every_recipe_plans_without_a_network_and_fits_the_device_it_names(capsys, tmp_path, name):
    device = "rtx4090" if name.startswith("smollm") else "a100-80gb"
    found = plan(capsys, name, "--device", device, "--results", tmp_path)
    assert len(found["runs"]) == RUNS[name]
    assert all(row["tokens"] > 1e5 and row["gpu_hours"] > 0 for row in found["runs"])
    [fetched] = [note for note in found["notes"] if note.startswith("planned from published sizes")]
    assert "; nothing was fetched: " in fetched
    assert not any("more than" in note for note in found["notes"])
    assert {row["run_id"] for row in found["runs"]} == {None}  # digests are of contents that are not here


def test_both_protocols_train_with_and_without_sft():
    for protocol, first in (("paper", "sft"), ("fair", "sft+sft")):
        recipes = compose(f"archangel/llama-7b-{protocol}", planned=True).recipes
        after = [recipe.label for recipe in recipes if recipe.sft is not None]
        without = [recipe.label for recipe in recipes if recipe.sft is None]
        assert sorted(set(without)) == ["csft", "dpo", "kto", "offline_ppo", "sft", "slic"]
        assert set(after) | {first} == {f"sft+{name}" for name in without} - {"sft+sft"} | {first}


def test_the_paper_takes_32_answers_a_step_and_fair_the_same_pairs_for_all():
    paper = compose("archangel/llama-7b-paper", planned=True).recipes
    assert {(r.name, r.budget.batch_pairs) for r in paper} == {
        ("sft", 32), ("slic", 32), ("dpo", 32), ("csft", 16), ("offline_ppo", 16), ("kto", 16),
    }  # fmt: skip
    assert {r.optim.lr for r in paper} == {5e-7}
    fair = compose("archangel/llama-7b-fair", planned=True).recipes
    assert {(r.budget.match, r.budget.batch_pairs) for r in fair} == {("steps", 32)}
    assert {r.seed for r in fair} == {0, 1, 2, 3, 4}


def test_runs_cost_what_they_do_by_hand_and_the_reference_is_asked_once(capsys, tmp_path):
    found = plan(capsys, write(tmp_path), "--device", "a100-80gb", "--results", tmp_path)
    training = 3 * forward(PAIRS, 2 * PAIRS)
    scoring = forward(8_552, 2 * 8_552)
    for row in found["runs"]:
        assert row["tokens"] == 2 * PAIRS * (PROMPT + COMPLETION)  # as records count them
        assert row["flops"] == pytest.approx(training + scoring, rel=1e-9)
        # 312 TFLOP/s at 40%
        assert row["gpu_hours"] == pytest.approx(row["flops"] / 312e12 / 0.4 / 3600, rel=1e-9)
    both = 2 * (training + scoring) + forward(PAIRS, 2 * PAIRS)
    assert found["missing"]["flops"] == pytest.approx(both, rel=1e-9)


def test_kto_also_asks_for_mismatched_completions(capsys, tmp_path):
    # all of a step at once: 32 pairs of 132 + 2 * 49 tokens, and 64 other completions
    keys = {"matrix": {"loss": ["kto"], "seed": [0]}, "execution": {"microbatch_tokens": 20_000}}
    found = plan(capsys, write(tmp_path, **keys), "--results", tmp_path)
    others = forward(0, 2 * PAIRS)  # which read the prompts of the main pass
    expected = 3 * forward(PAIRS, 2 * PAIRS) + others + forward(8_552, 2 * 8_552)
    assert found["runs"][0]["flops"] == pytest.approx(expected, rel=1e-9)
    assert found["runs"][0]["tokens"] == 2 * 2 * PAIRS * (PROMPT + COMPLETION)
    keys["execution"]["microbatch_tokens"] = 4_000  # in parts they stand alone, with prompts of their own
    found = plan(capsys, write(tmp_path, **keys), "--results", tmp_path)
    expected += forward(2 * PAIRS, 2 * PAIRS) - others
    assert found["runs"][0]["flops"] == pytest.approx(expected, rel=1e-9)


def test_memory_says_what_does_not_fit_and_what_helps(capsys, tmp_path):
    code, text, _ = run(
        capsys, "plan", write(tmp_path), "--device", "rtx4090", "--mfu", "0.5", "--results", tmp_path
    )
    assert code == 0
    assert "on rtx4090, at 50% of its peak (assumed): " in text
    # GB: weights 5.7, their copies in bfloat16 2.6, gradients 5.7, moments 11.3, 2^28 logits three times 3.2,
    # the head's gradient .4, and (24 + 1) layers * (2 * 28,672 + 4 * 8,192 bytes) * 32 * 230 tokens 16.6
    assert (
        "note: training takes 45 GB on each device, more than rtx4090 has room for (24 GB): "
        "more execution.devices with strategy=fsdp, or execution.gradient_checkpointing=true, or a smaller "
        "execution.microbatch_tokens, or adapter.kind=lora\n"
    ) in text
    larger = write(tmp_path, model={"path": "huggyllama/llama-30b"})
    _, text, _ = run(capsys, "plan", larger, "--device", "h100-80gb", "--results", tmp_path)
    # 4 bytes for each of 32.5e9 parameters, and the logits of a chunk
    assert "one device does, take 131 GB, more than h100-80gb has room for (80 GB)" in text


def test_local_rows_are_counted_and_their_tokens_guessed_where_the_tokenizer_is_not_here(capsys, tmp_path):
    # 41 characters a prompt and 82 a completion, at 4.1 a token; a tenth of the groups is test, a tenth dev
    lines = [
        {"prompt": f"{index:041d}", "chosen": f"{index:082d}", "rejected": f"{index + 1000:082d}"}
        for index in range(100)
    ]
    data = tmp_path / "feedback.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)))
    recipe = write(tmp_path, data={"source": "jsonl", "path": str(data)}, matrix={"loss": ["dpo"]})
    found = plan(capsys, recipe, "--results", tmp_path)
    [held_out] = compose(recipe, planned=True).recipes
    assert held_out.content["model"] == "unfetched EleutherAI/pythia-1.4b"
    tokens = found["runs"][0]["tokens"]
    assert tokens % (2 * (10 + 20)) == 0
    assert 60 <= tokens / (2 * (10 + 20)) <= 95
    assert found["notes"] == ["planned from published sizes; nothing was fetched: EleutherAI/pythia-1.4b"]


def test_what_is_in_no_table_and_not_here_is_one_line(capsys, tmp_path):
    unknown = write(tmp_path, model={"path": "nobody/knows"})
    code, out, err = run(capsys, "plan", unknown, "--results", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: model.path = 'nobody/knows'")
    assert err.count("\n") == 1
    too_many = write(tmp_path, data={"source": "hh", "num_pairs": 10**6})
    _, _, err = run(capsys, "plan", too_many, "--results", tmp_path)
    assert "1000000 pairs are asked for but about 144720 are published; ask for fewer" in err


def test_a_run_takes_no_published_sizes_for_data(tmp_path):
    with pytest.raises(RecipeError) as refused:
        compose(write(tmp_path))
    assert any("nor a data set that can be fetched" in problem for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--device", "a100-80"],
            "--device = 'a100-80': no such device is known (did you mean 'a100-80gb'?)",
        ),
        (["--mfu", "40"], "--mfu = 40: must be in (0, 1], the share of the device's peak"),
    ],
)
def test_a_device_that_is_not_known_and_a_share_that_is_none_are_one_line(capsys, options, message):
    code, out, err = run(capsys, "plan", "quickstart", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
