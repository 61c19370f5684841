"""Exported policies: what is in the folder, what its card says, what is refused."""

import json
import shutil

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

import halobench as hb
from halobench.cli import main
from halobench.compose import compose
from halobench.data.tokenize import TRANSCRIPT_TEMPLATE
from halobench.errors import ResultsError
from halobench.results.store import Store
from halobench.run import execute
from halobench.stages import policy_path, stages_of
from tests.integration.test_families import GROUPED, LORA, logits, write_family

TOKENS = [5, 9, 77, 31]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a recorded run of CSFT with an adapter, one of DPO without, and the SFT model's."""
    folder = tmp_path_factory.mktemp("export")
    write_family(folder, LlamaConfig(**GROUPED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALOBENCH_HOME", str(folder / "home"))
        recipes = [
            compose(folder / "recipe.yaml", overrides).recipes[0]
            for overrides in (
                ["loss.name=csft", f"adapter={json.dumps(LORA)}"],
                ["loss.name=dpo", "loss.beta=0.25"],
                ["loss.name=dpo", "evaluate=reference"],
            )
        ]
        for recipe in recipes:
            execute(recipe, Store(folder / "results"), lambda phase, done, total: None)
    return folder, recipes


@pytest.fixture
def folder(made, monkeypatch):
    """The folder of it all, with its models at hand."""
    monkeypatch.setenv("HALOBENCH_HOME", str(made[0] / "home"))
    return made[0]


@pytest.fixture
def csft(made):
    return made[1][0]


@pytest.fixture
def dpo(made):
    return made[1][1]


def test_the_folder_has_what_others_need_and_nothing_of_ours(folder, dpo, tmp_path, capsys):
    assert main(["export", dpo.run_id, str(tmp_path / "out"), "--results", str(folder / "results")]) == 0
    assert str(tmp_path / "out") in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "recipe.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == TRANSCRIPT_TEMPLATE  # the model's own tokenizer has none
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["out"]


def test_the_card_states_recipe_data_and_scores(folder, dpo, tmp_path):
    hb.export(dpo.run_id, tmp_path / "out", results=folder / "results")
    card = (tmp_path / "out" / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["halobench", "alignment", "dpo"],
    }
    record = Store(folder / "results").record(dpo.run_id)
    told = [dpo.run_id, record.data.sha256, "dpo (beta = 0.25)", "| base model | model |", "`jsonl`"]
    told += ["| seed | 0 |", "torch " + record.provenance.versions["torch"], "halobench run recipe.yaml"]
    for score in record.scores:
        told.append(
            f"| {score.scorer} | {score.task} | {score.metric} | {score.value:.4g} | {score.stderr:.2g} |"
        )
    assert [text for text in told if text not in body] == []
    assert str(folder) not in card + (tmp_path / "out" / "recipe.yaml").read_text()


def test_the_recipe_in_the_folder_makes_the_same_run(folder, dpo, tmp_path, monkeypatch):
    hb.export(dpo.run_id, tmp_path / "out", results=folder / "results")
    monkeypatch.chdir(folder)  # where its paths lead
    [again] = compose(tmp_path / "out" / "recipe.yaml").recipes
    assert again.run_id == dpo.run_id


def test_an_adapter_alone_belongs_to_the_model_that_the_run_started_from(folder, csft, tmp_path):
    hb.export(csft.run_id, tmp_path / "whole", results=folder / "results")
    hb.export(csft.run_id, tmp_path / "alone", adapter=True, results=folder / "results")
    names = {path.name for path in (tmp_path / "alone").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json"} <= names
    assert "model.safetensors" not in names
    assert not any(path.is_dir() for path in (tmp_path / "whole").iterdir())

    # as its card says
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "alone")
    start = AutoModelForCausalLM.from_pretrained(stages_of(csft)[-1].path)
    start.resize_token_embeddings(len(tokenizer))
    model = PeftModel.from_pretrained(start, tmp_path / "alone")
    good = tokenizer.convert_tokens_to_ids("<good>")
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    for tokens in (TOKENS, [*TOKENS, good]):
        torch.testing.assert_close(logits(model, tokens), logits(expected, tokens), atol=1e-4, rtol=0)
    card = (tmp_path / "alone" / "README.md").read_text()
    assert "PeftModel.from_pretrained(start" in card
    assert "start.resize_token_embeddings(len(tokenizer))" in card
    assert "end the prompt, template and all, with" in card


def test_what_cannot_be_exported_is_told_in_one_line(folder, made, dpo, tmp_path):
    def refused(run_id, where="out", **options):
        with pytest.raises(ResultsError) as error:
            hb.export(run_id, tmp_path / where, results=folder / "results", **options)
        assert not (tmp_path / "out").exists()
        [problem] = error.value.problems
        return problem

    assert "there is no adapter" in refused(dpo.run_id, adapter=True)
    assert "evaluated the reference model" in refused(made[1][2].run_id)
    assert "is not in" in refused("kto-s0-0123456789ab")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("do not touch")
    assert refused(dpo.run_id, "full") == f"{tmp_path / 'full'}: is not empty; name a new folder"
    assert (tmp_path / "full" / "mine.txt").read_text() == "do not touch"


def test_a_run_that_diverged_or_whose_models_are_gone_has_nothing_to_export(
    folder, dpo, tmp_path, monkeypatch
):
    shutil.copytree(folder / "results", tmp_path / "results")
    monkeypatch.setenv("HALOBENCH_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(ResultsError, match="run its recipe again with --force"):
        hb.export(dpo.run_id, tmp_path / "out", results=tmp_path / "results")
    file = tmp_path / "results" / "runs" / dpo.run_id / "run.json"
    record = {**json.loads(file.read_text()), "status": "diverged", "reason": "loss is nan"}
    file.write_text(json.dumps(record))
    with pytest.raises(ResultsError, match=r"diverged \(loss is nan\), so it has no policy"):
        hb.export(dpo.run_id, tmp_path / "out", results=tmp_path / "results")


def test_an_empty_folder_is_filled(folder, dpo, tmp_path):
    (tmp_path / "out").mkdir()
    hb.export(dpo.run_id, tmp_path / "out", results=folder / "results")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        policy_path(dpo.run_id) / "model.safetensors"
    ).read_bytes()


def test_generation_ends_where_the_template_ends_an_answer(folder, dpo, tmp_path, monkeypatch):
    shutil.copytree(folder / "home", tmp_path / "home")
    monkeypatch.setenv("HALOBENCH_HOME", str(tmp_path / "home"))
    tokenizer = AutoTokenizer.from_pretrained(policy_path(dpo.run_id))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<turn>"]})
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}<turn>\n{% endfor %}"
    tokenizer.save_pretrained(policy_path(dpo.run_id))
    hb.export(dpo.run_id, tmp_path / "out", results=folder / "results")
    ends = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids("<turn>") in ends
