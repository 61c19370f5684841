"""Models by folder or by the id of the Hub: what is fetched and when, and what is refused before it is."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from halobench import RecipeError, origin, storage
from halobench.compose import compose
from halobench.materials import Materials
from halobench.models.load import load_model, save_model, weights_digest
from halobench.run import _without_paths
from halobench.sections import Model, Trust
from halobench.stages import base_folder
from tests.models.tiny import tiny_llama, tiny_tokenizer

COMMIT = "c" * 40


@pytest.fixture
def tiny(tmp_path):
    """A folder with a tiny Llama and its tokenizer."""
    save_model(tmp_path / "tiny", tiny_llama(dtype=torch.float32), tiny_tokenizer())
    return tmp_path / "tiny"


@pytest.fixture
def problems(tmp_path, tiny):
    """The problems of a recipe with this model; none for a right one."""

    def of(**model):
        found = ()
        try:
            composed(tmp_path, {"path": str(tiny), **model})
        except RecipeError as error:
            found = error.problems
        prefix = f"model.path = {model.get('path', str(tiny))!r} in {tmp_path / 'recipe.yaml'}: "
        assert all(problem.startswith(prefix) for problem in found)
        return [problem.removeprefix(prefix) for problem in found]

    return of


def composed(folder, model):
    rows = [{"prompt": f"say {i}", "chosen": "w1", "rejected": "w2"} for i in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "data": {"source": "jsonl", "path": str(folder / "rows.jsonl")},
        "model": model,
        "loss": "dpo",
        "optim": {"lr": 0.001},
        "scoring": {"scorers": ["implied_reward"]},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(document))
    return compose(folder / "recipe.yaml")


@pytest.fixture
def hub(tmp_path, tiny, monkeypatch):
    """A Hub with one model, org/tiny, that counts what is fetched from it."""
    fetched = []

    def snapshot_download(path, *, revision, allow_patterns, ignore_patterns):
        if path != "org/tiny":
            raise error(RepositoryNotFoundError)
        if revision not in (None, "main", COMMIT):
            raise error(RevisionNotFoundError)
        folder = tmp_path / "cache" / COMMIT
        folder.mkdir(parents=True, exist_ok=True)
        for file in tiny.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, folder)
                fetched.append(file.name)
        return str(folder)

    def list_repo_files(path, *, revision):
        assert (path, revision) == ("org/tiny", COMMIT)
        return [file.name for file in tiny.iterdir()]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", list_repo_files)
    origin._find_on_hub.cache_clear()
    yield fetched
    origin._find_on_hub.cache_clear()


def error(kind):
    return kind("no", response=SimpleNamespace(headers={}, request=None))


def test_a_model_of_the_hub_is_its_commit_and_its_weights_wait_for_the_first_stage(tmp_path, hub, tiny):
    [recipe] = composed(tmp_path, {"path": "org/tiny"}).recipes
    assert "tokenizer.json" in hub
    assert not [name for name in hub if name.endswith(".safetensors")]
    assert recipe.content["model"] == COMMIT
    assert recipe.model.revision == COMMIT
    assert Materials(recipe).tokenizer.get_vocab() == tiny_tokenizer().get_vocab()

    folder = base_folder(recipe, lambda *what: None)
    assert hub.count("model.safetensors") == 1
    assert weights_digest(folder) == weights_digest(tiny)


def test_the_record_keeps_an_id_whole_and_of_a_path_the_last_part(tmp_path, hub, tiny):
    of_hub, of_folder = (
        _without_paths(composed(tmp_path, {"path": path}).recipes[0])["model"]
        for path in ("org/tiny", str(tiny))
    )
    assert (of_hub["path"], of_hub["revision"]) == ("org/tiny", COMMIT)
    assert (of_folder["path"], of_folder["revision"]) == ("tiny", None)


def test_the_same_commit_by_another_name_is_the_same_run(tmp_path, hub):
    ids = {
        composed(tmp_path, {"path": "org/tiny", "revision": name}).recipes[0].run_id
        for name in (None, "main", COMMIT)
    }
    assert len(ids) == 1


def test_what_the_hub_does_not_give_is_told_in_one_line(problems, hub, monkeypatch):
    assert problems(path="org/other") == ["neither a folder nor a model of the Hub; give one of them"]
    assert problems(path="org/tiny", revision="v2") == [
        "model.revision = 'v2' is no branch, tag or commit of it"
    ]

    def gated(*what, **how):
        raise error(GatedRepoError)

    origin._find_on_hub.cache_clear()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
    [problem] = problems(path="org/tiny")
    assert problem.startswith("its owner wants to be asked; ")


def test_without_a_network_the_problem_names_the_folder_and_the_hub(problems):
    [problem] = problems(path="org/never-fetched")  # the tests run with HF_HUB_OFFLINE
    assert problem.startswith("no such folder, and the Hub does not give it (")
    assert "\n" not in problem


def test_without_a_network_what_is_cached_is_used_if_its_weights_are(problems, hub, tmp_path, monkeypatch):
    def unreachable(*what, **how):
        raise ConnectionError("no route to the Hub")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", unreachable)
    assert problems(path="org/tiny") == [
        "its weights are not here, and the Hub cannot be reached (no route to the Hub)"
    ]
    (tmp_path / "cache" / COMMIT / "model.safetensors").touch()
    assert problems(path="org/tiny") == []


def test_a_revision_of_a_folder_is_refused(problems):
    [problem] = problems(revision="main")
    assert problem.startswith("revision = 'main' is of a model of the Hub, and this is a folder")


def change(folder, **keys):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **keys}))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            "is a BertForMaskedLM, which is no causal language model; give one, as BertLMHeadModel is",
        ),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "is a LlamaForSequenceClassification, which is no causal language model; "
            "give one, as LlamaForCausalLM is",
        ),
        (
            {"model_type": "vit"},
            "is of type 'vit', of which transformers has no causal language model; give one",
        ),
        (
            {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Mine"}},
            "brings code of its own; read it, then set model.trust_remote_code=true",
        ),
        (
            {"model_type": None},
            "is of type 'None', of which transformers has no causal language model; give one",
        ),
    ],
)
def test_a_model_that_is_no_causal_one_is_refused(problems, tiny, keys, told):
    assert problems() == []
    change(tiny, **keys)
    assert problems() == [told]


def test_code_runs_only_where_it_is_asked_for(problems, tiny):
    change(tiny, model_type="mine", auto_map={"AutoModelForCausalLM": "mine.Mine"})
    assert problems(trust_remote_code=True) == []


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class Mine(LlamaForCausalLM):
    pass
class MineConfig(LlamaConfig):
    model_type = "mine"
Mine.config_class = MineConfig
"""


def test_code_that_a_model_brings_is_run_once_trusted(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tiny / "mine.py").write_text(CODE)
    change(
        tiny,
        model_type="mine",
        architectures=["Mine"],
        auto_map={"AutoModelForCausalLM": "mine.Mine", "AutoConfig": "mine.MineConfig"},
    )
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_model(tiny)
    assert type(load_model(tiny, trust=Trust(remote_code=True))).__name__ == "Mine"


def test_pickled_weights_are_read_only_where_it_is_asked_for(problems, tiny):
    (tiny / "model.safetensors").unlink()
    assert problems() == [
        "has no weights (none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, "
        "pytorch_model.bin.index.json)"
    ]
    expected = tiny_llama(dtype=torch.float32)
    torch.save(expected.state_dict(), tiny / "pytorch_model.bin")
    assert problems() == [
        "its weights are pickled (pytorch_model.bin), which may run code when they are read; convert "
        "them to safetensors, or set model.allow_pickle=true"
    ]
    assert problems(allow_pickle=True) == []
    with pytest.raises(OSError, match="safetensors"):
        load_model(tiny)
    loaded = load_model(tiny, trust=Trust(pickle=True))
    for name, weight in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)
    before = weights_digest(tiny)
    torch.save(tiny_llama(1, dtype=torch.float32).state_dict(), tiny / "pytorch_model.bin")
    assert weights_digest(tiny) != before


def test_a_sentencepiece_tokenizer_asks_for_its_package(problems, tiny, monkeypatch):
    (tiny / "tokenizer.json").rename(tiny / "tokenizer.model")
    monkeypatch.setattr("halobench.check.models.is_installed", lambda module: module != "sentencepiece")
    assert problems() == ["its tokenizer.model needs sentencepiece; pip install 'halobench[sentencepiece]'"]
    monkeypatch.setattr("halobench.check.models.is_installed", lambda module: True)
    assert problems() == []


def test_a_large_file_is_digested_once_until_it_changes(tmp_path, home, monkeypatch):
    asked = []
    original = storage.file_digest
    monkeypatch.setattr(storage, "file_digest", lambda path: asked.append(path) or original(path))
    monkeypatch.setattr(storage, "_LARGE", 4)
    file = tmp_path / "weights"
    file.write_bytes(b"12345")
    first = [storage.known_digest(file), storage.known_digest(file)]
    file.write_bytes(b"123456")
    # sha256sum of the five and the six characters
    assert first == ["5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"] * 2
    assert storage.known_digest(file) == "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92"
    assert len(asked) == 2


def test_a_small_file_leaves_no_trace(tmp_path, home):
    (tmp_path / "config").write_text("{}")
    storage.known_digest(tmp_path / "config")
    assert not home.exists()


def test_an_id_is_not_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert origin.is_on_hub("org/model-1.5_b")
    assert not origin.is_on_hub("gpt2")  # there is such a folder
    assert not any(map(origin.is_on_hub, ("a/b/c", "/models/a", "./a", "~/a/b")))
    assert origin.fetch(Model(path="gpt2")) == Path("gpt2")
