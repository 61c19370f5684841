"""The base selection: one for all losses, and without the texts that no model can be shown."""

import json
from collections import Counter

import pytest

from halobench.compose import compose
from halobench.data.tokenize import Fate
from halobench.errors import DataError
from halobench.grid import missing_tasks
from halobench.materials import Materials
from halobench.results.store import Store
from halobench.training.data import alignment_view
from tests.data.test_tokenize import CHATML, letters

LOSSES = ["sft", "csft", "slic", "dpo", "offline_ppo", "kto"]
RECIPE = """
data: {{source: jsonl, path: {rows}, max_length: 24, max_prompt_length: 12, {options}}}
model:
  architecture: {{hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2}}
  tokenizer: {{path: {tokenizer}}}
optim: {{lr: 1.0e-3}}
loss: {{name: dpo}}
split_seed: 0
scoring: {{scorers: [implied_reward]}}
board: {{metric: implied_reward/accuracy}}
"""
HELD_OUT = {"prompt": "q", "chosen": "a", "rejected": "b"}


def pair(prompt, chosen, rejected):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.fixture
def write(tmp_path):
    """Write rows, a tokenizer of letters and a recipe; return the recipe file."""

    def written(rows, *, options="num_pairs: null", template=CHATML):
        folder = tmp_path / "rows"
        folder.mkdir(exist_ok=True)
        for split, part in (("train", rows), ("dev", [HELD_OUT]), ("test", [HELD_OUT])):
            (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, part)) + "\n")
        letters(template=template).save_pretrained(tmp_path / "tokenizer")
        file = tmp_path / "recipe.yaml"
        file.write_text(RECIPE.format(rows=folder, tokenizer=tmp_path / "tokenizer", options=options))
        return file

    return written


def materials(file, loss="dpo", *overrides):
    [recipe] = compose(file, [f"loss.name={loss}", *overrides]).recipes
    return Materials(recipe)


# prompts become <s><good>...<end>\n<good>: five tokens more than their letters
ROWS = [
    pair("short", "yes", "no"),
    pair("also", "y" * 14, "no"),  # 9 + 14 + 1 tokens just fit
    pair("over", "y" * 15, "no"),
    pair("much too long", "yes", "no"),
    pair("says", "a</s>b", "no"),
]


def test_overlong_rows_are_dropped_for_every_loss_and_counted(write):
    file = write(ROWS, options="overlong: drop")
    found = {loss: materials(file, loss).feedback.fingerprint for loss in LOSSES}
    assert len({fingerprint.sha256 for fingerprint in found.values()}) == 1
    assert found["kto"].drops == {
        "a text holds a special token of the tokenizer": 1,
        "too long for max_length or max_prompt_length": 2,
    }
    assert found["kto"].num_pairs == 2


@pytest.mark.parametrize("overlong", ["cut", "drop"])
def test_no_loss_sees_a_row_that_another_lost(overlong, write):
    file = write(ROWS, options=f"overlong: {overlong}")
    seen = {}
    for loss in LOSSES:
        examples = list(alignment_view(materials(file, loss)).examples)
        seen[loss] = {(e.response.prompt[0].content, e.response.completion) for e in examples}
    prompts = {"short", "also"} | ({"over", "much too long"} if overlong == "cut" else set())
    assert {prompt for prompt, _ in seen["dpo"]} == prompts
    for loss in ("kto", "csft", "offline_ppo", "slic"):
        assert seen[loss] == seen["dpo"]
    assert seen["sft"] == {(prompt, text) for prompt, text in seen["dpo"] if text != "no"}


def test_overlong_rows_that_stay_are_cut_for_every_loss_alike(write):
    file = write(ROWS)
    for loss in LOSSES:
        opened = materials(file, loss)
        fates = Counter(
            Fate(int(opened.tokens.fates[row]))
            for key, row in opened.tokens.rows.items()
            if key in opened.feedback.responses
        )
        assert fates == {Fate(0): 5, Fate.COMPLETION_CUT: 1, Fate.PROMPT_CUT: 2}


def test_nothing_left_is_an_error_that_says_why(write):
    file = write([ROWS[3], ROWS[4]], options="overlong: drop")
    message = (
        "no row is left to train on .*1 a text holds a special token.*2 too long.*; raise data.max_length"
    )
    with pytest.raises(DataError, match=message):
        _ = materials(file).feedback


def test_selection_is_part_of_the_identity_only_where_it_is_not_the_default(write):
    plain = materials(write(ROWS)).recipe
    assert (
        materials(write(ROWS), "dpo", "data.overlong=cut", "data.turns=given").recipe.run_id == plain.run_id
    )
    assert materials(write(ROWS), "dpo", "data.overlong=drop").recipe.run_id != plain.run_id
    assert materials(write(ROWS), "dpo", "data.turns=joined").recipe.setting_id != plain.setting_id


REFUSES_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "[{{ m['content'] }}]{% endfor %}"
)


def test_template_that_refuses_some_rows_is_named_before_anything_runs(write, tmp_path):
    turns = [{"role": "system", "content": "be"}, {"role": "user", "content": "why"}]
    file = write([*ROWS, pair(turns, "yes", "no")], template=REFUSES_SYSTEM)
    message = (
        r"data.source = 'jsonl', data.path = '.*rows': the chat template refuses the turns system, user "
        r"\(no system turns\); set data.turns: joined"
    )
    with pytest.raises(DataError, match=message) as caught:
        missing_tasks(compose(file, ["seed=[0,1]"]).recipes, Store(tmp_path / "results"))
    assert len(caught.value.problems) == 1
    joined = compose(file, ["data.turns=joined"]).recipes
    assert missing_tasks(joined, Store(tmp_path / "results"))
