"""What the user did wrong is told in one line per problem with exit code 2, and nothing is written."""

import json

import pytest
import yaml

from halobench import RecipeError
from halobench.cli import main
from tests.leaderboard.synthetic import ARCHITECTURE

WORLD = {
    "data": {"source": "cafe", "num_pairs": 24, "max_length": 64, "max_prompt_length": 28},
    "model": {"architecture": ARCHITECTURE},
    "loss": "kto",
    "optim": {"lr": 0.001},
    "scoring": {"scorers": ["oracle"]},
}
FILES = {
    **WORLD,
    "data": {"source": "jsonl", "path": "rows.jsonl"},
    "scoring": {"scorers": ["implied_reward"]},
}
VOCABULARY = {"model": {"vocab": {"<end>": 0}}, "added_tokens": []}
TAKEN = """from halobench import Loss, LossOutput, Pairs, register_loss
@register_loss("kto", source="here")
class Mine(Loss):
    def __call__(self, batch: Pairs) -> LossOutput: ...
"""


@pytest.fixture
def attempt(tmp_path, monkeypatch, capsys, home):
    """Run a command beside the user's files; return the problems it told and check that it left no trace."""
    monkeypatch.chdir(tmp_path)

    def with_files(arguments, **files):
        for name, content in files.items():
            file = tmp_path / name.replace("__", ".")
            file.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        before = sorted(tmp_path.rglob("*"))
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert sorted(tmp_path.rglob("*")) == before
        assert not home.exists()
        lines = captured.err.splitlines()
        assert all(line.startswith("error: ") for line in lines)
        return [line.removeprefix("error: ") for line in lines]

    return with_files


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ["loss.name=ktoo"],
            "loss.name in the command line: unknown loss 'ktoo' (did you mean 'kto'?); registered: ",
        ),
        (["optim.learning_rate=1"], "optim.learning_rate = 1 in the command line: unknown key"),
        (["sede=1"], "sede = 1 in the command line: unknown key (did you mean 'seed'?)"),
        (["loss.beta=-1"], "loss.beta = -1 in the command line: must be greater than 0"),
        (["optim.lr=abc"], "optim.lr = 'abc' in the command line: must be a number"),
        (
            ["trainer.max_steps=5"],
            "trainer.max_steps in the command line: is set by halobench; use budget.epochs",
        ),
        (["--plugin", "gone.py"], "plug-in gone.py: no such file; give the path of a Python file"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(attempt, arguments, problem):
    [told] = attempt(["run", "mine.yaml", *arguments], mine__yaml=WORLD)
    assert told.startswith(problem)


def test_problems_are_told_one_per_line(attempt):
    told = attempt(["run", "mine.yaml", "loss.beta=-1", "optim.lr=abc", "seed=-2"], mine__yaml=WORLD)
    assert sorted(line.partition(" ")[0] for line in told) == ["loss.beta", "optim.lr", "seed"]


def test_a_missing_recipe_is_told(attempt):
    [told] = attempt(["run", "gone.yaml"])
    assert told.startswith("recipe 'gone.yaml': no such file, and no built-in recipe has that name")


def test_a_recipe_that_is_not_yaml_is_told_with_its_line(attempt):
    [told] = attempt(["run", "mine.yaml"], mine__yaml="loss: kto\noptim: {lr: 1\n")
    assert told.startswith("mine.yaml:3: is not YAML: ")


def test_a_row_without_a_label_is_told_with_its_line_and_keys(attempt):
    rows = [{"prompt": "x", "completion": "y", "desirable": True}, {"prompt": "x", "completion": "z"}]
    text = "\n".join(map(json.dumps, rows))
    model = {"architecture": ARCHITECTURE, "tokenizer": {"path": "tokenizer.json", "eos": "<end>"}}
    files = {
        "rows__jsonl": text,
        "tokenizer__json": json.dumps(VOCABULARY),
        "mine__yaml": {**FILES, "model": model},
    }
    assert attempt(["run", "mine.yaml"], **files) == [
        'rows.jsonl:2: "desirable" is missing; expected true or false (found keys: prompt, completion)'
    ]


def test_an_empty_file_of_feedback_is_told_beside_what_else_is_wrong(attempt):
    told = attempt(["run", "mine.yaml"], mine__yaml=FILES, rows__jsonl="\n\n")
    assert "rows.jsonl: is empty; give one JSON object per line" in told


def test_a_model_folder_without_a_tokenizer_is_told(attempt, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model" / "model.safetensors").touch()
    [told] = attempt(["run", "mine.yaml"], mine__yaml={**WORLD, "model": {"path": "model"}})
    assert told.startswith("model.path = 'model' in mine.yaml: the folder has no tokenizer")


def test_a_plugin_that_takes_a_name_is_told_with_both_places(attempt):
    [told] = attempt(["run", "mine.yaml", "--plugin", "taken.py"], mine__yaml=WORLD, taken__py=TAKEN)
    assert "loss 'kto' of " in told
    assert "taken.py:2 is already registered by " in told
    assert told.endswith("choose another name")


# What a slip of the pen makes of a recipe.
@pytest.mark.parametrize(
    "slip",
    [
        "extends:",
        "extends: 5",
        "extends: mine.yaml",
        "loss_defaults:",
        "plugins:",
        "plugins: [5]",
        "matrix: 5",
        "matrix: {loss: kto}",
        "matrix: {loss: [[kto]]}",
        "matrix: {points: [kto]}",
        "loss: 5",
        "loss: {name: [kto]}",
        "loss: {beta: 1}",
        "controls: [reference]",
        "controls: {reference:}",
        "data: 5",
        "optim:",
        "board:",
        "suite:",
        "trainer: 5",
        "seed: a",
    ],
)
def test_a_slip_is_told(attempt, slip):
    key = slip.partition(":")[0]
    rest = yaml.safe_dump({name: value for name, value in WORLD.items() if name != key})
    assert attempt(["plan", "mine.yaml"], mine__yaml=f"{slip}\n{rest}")


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(RecipeError, match="no such file"):
        main(["--debug", "run", str(tmp_path / "gone.yaml")])


@pytest.mark.parametrize(
    "arguments",
    [[], ["rnu"], ["run"], ["plan", "x.yaml", "--jsn"], ["list", "lossses"], ["results", "diff", "a"]],
)
def test_a_command_that_does_not_exist_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: halobench")
