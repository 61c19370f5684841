"""One prompt to a run's policy and the model that it started from."""

import json
import shutil

import pytest

from halobench.compose import compose
from halobench.errors import ResultsError
from halobench.results.store import Store
from halobench.run import execute
from halobench.sampling import answer_both
from halobench.stages import stages_of
from tests.data.test_tokenize import CHATML, letters

RECIPE = """
data: {{source: jsonl, path: {rows}, max_length: 24, max_prompt_length: 16}}
model:
  architecture: {{hidden_size: 16, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2}}
  tokenizer: {{path: {tokenizer}}}
sft: {{batch_pairs: 4, optim: {{lr: 1.0e-2}}}}
optim: {{lr: 1.0e-2}}
budget: {{batch_pairs: 4}}
loss: {{name: dpo}}
split_seed: 0
scoring: {{scorers: [implied_reward], max_new_tokens: 8}}
board: {{metric: implied_reward/accuracy}}
"""


@pytest.fixture
def recorded(tmp_path):
    """A run on rows of one's own, and where they were."""
    rows = tmp_path / "rows"
    rows.mkdir()
    pairs = [{"prompt": f"ask {letter}", "chosen": "yes", "rejected": "no"} for letter in "abcdefgh"]
    for split, part in (
        ("train", pairs),
        ("dev", [{**pairs[0], "prompt": "x"}]),
        ("test", [{**pairs[0], "prompt": "y"}]),
    ):
        (rows / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    letters(template=CHATML).save_pretrained(tmp_path / "tokenizer")
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(rows=rows, tokenizer=tmp_path / "tokenizer"))
    [recipe] = compose(file).recipes
    store = Store(tmp_path / "results")
    execute(recipe, store, lambda phase, done, total: None)
    return store.record(recipe.run_id), recipe, rows


def test_both_answer_though_the_data_are_gone(recorded):
    record, _, rows = recorded
    shutil.rmtree(rows)
    answers = answer_both(record, "ask z", temperature=1.0, seed=3)
    assert [answer.who for answer in answers] == ["start", "policy"]
    assert all(answer.components is None for answer in answers)
    assert answers == answer_both(record, "ask z", temperature=1.0, seed=3)


def test_models_that_are_gone_are_named_with_what_to_do(recorded):
    record, recipe, _ = recorded
    shutil.rmtree(stages_of(recipe)[-1].path)
    with pytest.raises(ResultsError, match="run its recipe again with --force"):
        answer_both(record, "ask z", temperature=1.0, seed=3)
