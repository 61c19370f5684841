"""What a point of the matrix is checked against before anything runs; a failed check leaves no trace."""

import json

import pytest
import yaml

from halobench import RecipeError
from halobench.compose import compose
from tests.leaderboard.synthetic import ARCHITECTURE

WORDS = ["<pad>", "<end>", "yes", "no"]
TOKENIZER = {
    "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}},
    "added_tokens": [],
}
NEW = {"architecture": ARCHITECTURE}


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """An empty folder to work in; the files of the user are elsewhere."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def files(tmp_path):
    """A folder of the user's files: feedback, a tokenizer, a model folder."""
    folder = tmp_path / "files"
    (folder / "model").mkdir(parents=True)
    rows = [{"prompt": f"say {i}", "chosen": "yes", "rejected": "no"} for i in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "model" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model" / "model.safetensors").touch()
    return folder


@pytest.fixture
def problems(tmp_path, work, home):
    """The problems of a recipe of the world with changes; nothing is written while they are found."""

    def of(changes, world=True):
        document = {
            "data": {"source": "cafe", "num_pairs": 24} if world else {"source": "jsonl"},
            "model": NEW,
            "loss": "kto",
            "optim": {"lr": 0.001},
            "scoring": {"scorers": ["oracle" if world else "implied_reward"]},
            **changes,
        }
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(document))
        try:
            compose(recipe)
        except RecipeError as error:
            assert not home.exists()
            assert list(work.iterdir()) == []
            return [problem.replace(f" in {recipe}", " in RECIPE") for problem in error.problems]
        return []

    return of


@pytest.fixture
def file_problems(problems, files):
    """The problems of a recipe on feedback from a file, right but for the changes."""
    right = {
        "data": {"source": "jsonl", "path": str(files / "rows.jsonl")},
        "model": {**NEW, "tokenizer": {"path": str(files / "tokenizer.json"), "eos": "<end>"}},
    }
    return lambda changes: problems({**right, **changes}, world=False)


def test_right_recipes_have_no_problems(problems, file_problems):
    assert problems({}) == []
    assert file_problems({}) == []


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("max_steps", "budget.epochs"),
        ("max_epochs", "budget.epochs"),
        ("accumulate_grad_batches", "execution.microbatch_tokens"),
        ("gradient_clip_val", "optim.clip"),
        ("use_distributed_sampler", "budget.batch_pairs"),
        ("callbacks", "execution.checkpoint_every"),
        ("default_root_dir", "the variable HALOBENCH_HOME"),
    ],
)
def test_what_halobench_sets_is_refused_as_a_trainer_key(problems, key, remedy):
    assert problems({"trainer": {key: 1}}) == [
        f"trainer.{key} in RECIPE: is set by halobench; use {remedy}",
    ]


@pytest.mark.parametrize("key", ["fast_dev_run", "limit_train_batches", "max_time", "overfit_batches"])
def test_trainer_keys_that_cut_training_short_are_refused(problems, key):
    # `trainer` is not part of a run's identity, so nothing in it may change what is learned
    [problem] = problems({"trainer": {key: 1}})
    assert problem.startswith(f"trainer.{key} in RECIPE: ")


def test_a_misspelt_trainer_key_suggests_the_nearest(problems):
    assert problems({"trainer": {"determinstic": True, "deterministic": True}}) == [
        "trainer.determinstic in RECIPE: lightning.Trainer has no such argument "
        "(did you mean 'deterministic'?)"
    ]


def test_unknown_names_are_told_where_they_stand(problems):
    found = problems(
        {"data": {"source": "caffe", "num_pairs": 1}, "scoring": {"scorers": ["orakel", "lm_eva"]}}
    )
    assert [problem.partition("; registered: ")[0] for problem in found] == [
        "data.source in RECIPE: unknown data source 'caffe' (did you mean 'cafe'?)",
        "scoring.scorers in RECIPE: unknown scorer 'orakel' (did you mean 'oracle'?)",
        "scoring.scorers in RECIPE: unknown scorer 'lm_eva' (did you mean 'lm_eval'?)",
    ]


def test_a_world_is_asked_for_a_number_of_pairs(problems):
    [problem] = problems({"data": {"source": "cafe"}})
    assert problem.startswith("data.num_pairs")
    assert "say how many, for example data.num_pairs: 3000" in problem


def test_more_pairs_than_a_file_has_are_refused(file_problems, files):
    data = {"source": "jsonl", "path": str(files / "rows.jsonl"), "num_pairs": 61}
    [problem] = file_problems({"data": data})
    assert problem.startswith("data.num_pairs in RECIPE: 61 pairs are asked for but the train split has ")


def test_a_file_without_prompts_to_score_is_refused_before_training(file_problems, files):
    # one conversation is on one side of the split, "a" in train: nothing is left to choose T* or to score
    row = {"group": "a", "prompt": "say it", "chosen": "yes", "rejected": "no"}
    (files / "rows.jsonl").write_text(json.dumps(row))
    [problem] = file_problems({})
    assert "split" in problem


@pytest.mark.parametrize("scorer", ["oracle", "lm_eval"])
def test_a_scorer_that_needs_a_world_is_refused_on_files(file_problems, scorer):
    assert file_problems({"scoring": {"scorers": [scorer, "implied_reward"]}}) == [
        f"scoring.scorers in RECIPE: '{scorer}' needs a world that knows the true utility, "
        "and 'jsonl' is none; drop it"
    ]


def test_an_engine_that_is_not_installed_is_refused(file_problems, monkeypatch):
    scoring = {"scorers": ["implied_reward"], "engine": "vllm"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert file_problems({"scoring": scoring}) == [
        "scoring.engine = 'vllm' in RECIPE: vLLM is not installed; pip install 'halobench[vllm]', "
        "or use halobench"
    ]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert file_problems({"scoring": scoring}) == []


def test_a_rule_for_pairs_is_refused_where_there_are_pairs(file_problems, files):
    data = {"source": "jsonl", "path": str(files / "rows.jsonl"), "pairing": "all"}
    assert file_problems({"data": data}) == [
        "data.pairing = 'all': 'jsonl' has no several scored answers to pair; drop it, or use one of "
        "helpsteer2, oasst, ultrafeedback_ratings"
    ]


@pytest.mark.parametrize("name", ["dpo", "slic"])
def test_a_loss_on_pairs_is_refused_where_there_are_none(file_problems, files, name):
    rows = [{"prompt": f"q{n}", "completion": f"a{n % 7}", "desirable": n % 2 == 0} for n in range(60)]
    rows += [{**row, "completion": "b", "desirable": not row["desirable"]} for row in rows]
    (files / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    [problem] = [line for line in file_problems({"loss": {"name": name}}) if "needs pairs" in line]
    assert problem == (
        f"loss.name = '{name}' in RECIPE: needs pairs, and the rows of 'jsonl' are single answers; "
        "use kto, csft or sft"
    )
    assert not [line for line in file_problems({"loss": {"name": "kto"}}) if "needs pairs" in line]


def test_one_answer_per_prompt_is_refused_for_a_loss_on_pairs(problems):
    data = {"source": "cafe", "num_pairs": 24, "answers": "one_per_prompt"}
    [problem] = [line for line in problems({"loss": {"name": "dpo"}, "data": data}) if "needs pairs" in line]
    assert problem == (
        "loss.name = 'dpo' in RECIPE: needs pairs, and data.answers = 'one_per_prompt' in RECIPE leaves "
        "none; use kto, csft or sft"
    )


def test_what_only_a_world_has_is_refused_on_files(file_problems, files):
    stage = {"num_documents": 1, "steps": 1, "batch_documents": 1, "optim": {"lr": 1}}
    data = {"source": "jsonl", "path": str(files / "rows.jsonl"), "demonstrations": "best_of_16"}
    assert file_problems({"base": stage, "data": data}) == [
        "base in RECIPE: only a world has documents to pre-train on; drop it, or use model.path",
        "data.demonstrations = 'best_of_16' in RECIPE: only a world knows the best; use chosen",
    ]


def test_a_model_folder_must_hold_a_model(problems, files):
    (files / "model" / "config.json").unlink()
    [problem] = problems({"model": {"path": str(files / "model")}})
    assert problem.startswith(f"model.path = '{files / 'model'}' in RECIPE: no config.json there; ")


def test_a_model_folder_without_a_tokenizer_needs_one(file_problems, files):
    path = str(files / "model")
    assert file_problems({"model": {"path": path}}) == [
        f"model.path = {path!r} in RECIPE: the folder has no tokenizer "
        "(none of tokenizer.json, tokenizer.model, vocab.json); set model.tokenizer.path"
    ]
    tokenizer = {"path": str(files / "tokenizer.json"), "eos": "<end>"}
    assert file_problems({"model": {"path": path, "tokenizer": tokenizer}}) == []
    (files / "model" / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    assert file_problems({"model": {"path": path}}) == []


def test_a_new_model_on_files_needs_a_tokenizer(file_problems):
    [problem] = file_problems({"model": NEW})
    assert problem.startswith(
        "model.tokenizer in RECIPE: a new model needs a tokenizer; set model.tokenizer: "
    )


@pytest.mark.parametrize("model", [{}, {**NEW, "path": "folder"}])
def test_a_model_has_one_origin(problems, model):
    assert problems({"model": model}) == [
        "model in RECIPE: give either model.path (a Hugging Face folder) or model.architecture (a new Llama)"
    ]


def test_a_finished_model_has_no_embedding_for_a_token_of_your_own(file_problems, files):
    tokenizer = {"path": str(files / "tokenizer.json"), "eos": "</s>"}
    assert file_problems({"model": {"path": str(files / "model"), "tokenizer": tokenizer}}) == [
        f"model.tokenizer.eos = '</s>' in RECIPE: is not a token of {files / 'tokenizer.json'}"
    ]
    assert file_problems({"model": {**NEW, "tokenizer": tokenizer}}) == []  # a new model learns one


@pytest.mark.parametrize(
    ("name", "eos", "expected"),
    [
        ("gone.json", "<end>", "no such file; give a tokenizer.json or the folder that holds it"),
        ("rows.jsonl", "<end>", "is not a tokenizer of the `tokenizers` library"),
        ("tokenizer.json", None, "names no token that ends a completion; set model.tokenizer.eos"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_says_why(file_problems, files, name, eos, expected):
    path = str(files / name)
    model = {**NEW, "tokenizer": {"path": path, "eos": eos}}
    assert file_problems({"model": model}) == [f"model.tokenizer.path = {path!r} in RECIPE: {expected}"]


def test_a_unigram_tokenizer_is_a_tokenizer(file_problems, files):
    # its vocabulary is a list of tokens with their scores
    vocabulary = [[word, -1.5] for word in WORDS]
    unigram = {"model": {"type": "Unigram", "vocab": vocabulary}, "added_tokens": []}
    (files / "tokenizer.json").write_text(json.dumps(unigram))
    assert file_problems({}) == []


def test_the_prompt_must_leave_room_for_a_completion(problems):
    data = {"source": "cafe", "num_pairs": 1, "max_length": 30, "max_prompt_length": 30}
    assert problems({"data": data}) == [
        "data in RECIPE: max_prompt_length = 30 leaves no room for a completion in max_length = 30; lower it"
    ]


@pytest.mark.parametrize("metric", ["winrate", "oracle/", "/winrate", "orakel/winrate"])
def test_the_metric_of_the_board_is_one_of_a_registered_scorer(problems, metric):
    [problem] = problems({"board": {"metric": metric}})
    assert problem.startswith(f"board.metric = '{metric}' in RECIPE: ")


ORACLE = {"rounds": 2, "judge": {"name": "oracle"}}
PLACE = "data.online in RECIPE"


@pytest.mark.parametrize(
    ("online", "problem"),
    [
        ({**ORACLE, "rounds": 25}, f"{PLACE}: 25 rounds of 24 pairs; ask for fewer rounds"),
        ({**ORACLE, "rounds": 0}, "data.online.rounds = 0 in RECIPE: must be greater than 0"),
        (
            {**ORACLE, "samples_per_prompt": 1},
            "data.online.samples_per_prompt = 1 in RECIPE: must be at least 2",
        ),
        ({"rounds": 2}, "data.online.judge in RECIPE: is missing; give it a value"),
        (
            {"rounds": 2, "judge": {"exact": True}},
            f"{PLACE}: give data.online.judge the name of a judge, one of oracle, reward_model",
        ),
        (
            {"rounds": 2, "judge": {"name": "oracel"}},
            "data.online.judge.name in RECIPE: unknown judge 'oracel' (did you mean 'oracle'?); "
            "registered: oracle, reward_model",
        ),
        (
            {"rounds": 2, "judge": {"name": "oracle", "exactly": True}},
            "data.online.judge.exactly = True in RECIPE: unknown key (did you mean 'exact'?)",
        ),
    ],
)
def test_online_alignment_that_cannot_be_is_refused(problems, online, problem):
    assert problems({"data": {"source": "cafe", "num_pairs": 24, "online": online}}) == [problem]


def test_a_world_without_end_is_told_of_once(problems):
    [problem] = problems({"data": {"source": "cafe", "online": ORACLE}})
    assert problem.startswith("data.num_pairs in RECIPE: a world has no end of pairs")


def test_the_oracle_judges_only_in_a_world(file_problems, files):
    data = {"source": "jsonl", "path": str(files / "rows.jsonl"), "online": ORACLE}
    assert file_problems({"data": data}) == [
        "data.online.judge.name = 'oracle' in RECIPE: needs a world that knows the true utility, and 'jsonl' "
        "is none; use reward_model, or a judge of your own"
    ]


def test_rounds_of_a_whole_file_are_counted_too(file_problems, files):
    data = {"source": "jsonl", "path": str(files / "rows.jsonl"), "online": {**ORACLE, "rounds": 61}}
    [first, _] = file_problems({"data": data})
    assert first.startswith(f"{PLACE}: 61 rounds of ")


def test_single_answers_are_not_asked_again_online(file_problems, files):
    rows = [{"prompt": f"say {i}", "completion": "yes", "desirable": i % 2 == 0} for i in range(60)]
    rows += [{"prompt": f"say {i}", "completion": "no", "desirable": i % 2 == 1} for i in range(60)]
    (files / "single.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"source": "jsonl", "path": str(files / "single.jsonl"), "online": ORACLE}
    assert file_problems({"data": data})[0] == (
        f"{PLACE}: counts in pairs, and the rows of 'jsonl' are single answers; drop it"
    )
