"""alpaca-eval's own loop agrees with the oracle's arithmetic, and leaves nothing behind."""

import importlib.util
import sys
from pathlib import Path

import pytest

from halobench.feedback import EvaluationPrompt, Message, PromptSet
from halobench.scoring.alpaca_eval import AlpacaEvalScorer, import_alpaca_eval
from halobench.scoring.oracle import OracleScorer
from halobench.storage import home
from tests.scoring.conftest import values

# World 0: the chai and the lemonade are hot drinks under 4 (utility 2), the mocha is cold (-.667).
ANSWERS = {
    "a hot drink , under 4 .": ("try the chai .", "sure ! try the lemonade . <eos>", 1.0),  # 2 against 2.4
    "a hot drink , under 4 , for 2 .": ("try the chai .", "try the lemonade . <eos>", 0.5),  # 2 against 2
    "hi , a hot drink , under 4 .": ("try the chai .", "try the chai . <eos>", 0.5),  # the same text
    "please , a hot drink , under 4 .": ("try the chai .", "try the chai .", 0.0),  # not ended: .5
    "i need a hot drink , under 4 .": ("try the chai .", "try the mocha . <eos>", 0.0),
    "a hot drink .": ("try the mocha .", "try the chai . <eos>", 1.0),
}
PROMPTS = PromptSet(
    tuple(
        EvaluationPrompt(f"p{i}", f"p{i}", (Message("user", text),), (chosen, "ugh ."), ("ugh .", "ugh ."))
        for i, (text, (chosen, _, _)) in enumerate(ANSWERS.items())
    )
)
SAID = {
    row.prompt_id: [answer, "ugh ."]
    for row, (_, answer, _) in zip(PROMPTS.rows, ANSWERS.values(), strict=True)
}


def files_below(*folders):
    return {
        (path, path.stat().st_mtime_ns)
        for folder in folders
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


@pytest.fixture
def contender(make, scripted):
    made = make(reference=None, prompts=PROMPTS)
    scripted(
        made,
        {1.0: SAID | {"dev": ["ugh .", "ugh ."]}, 0.0: {k: v[:1] for k, v in SAID.items()} | {"dev": ["."]}},
    )
    return made


def test_alpaca_eval_gives_the_win_rate_of_the_oracle_and_leaves_no_files(contender, tmp_path, monkeypatch):
    # the test's own folder stands for the user's: their home, where they are, and halobench's
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    package = importlib.util.find_spec("alpaca_eval").submodule_search_locations[0]
    watched = (home(), tmp_path / "user", tmp_path / "here", package)
    oracle = values(OracleScorer().score(contender))
    contender.materials.tokenizer  # noqa: B018  loaded before the files are counted
    before = {entry for entry in files_below(*watched) if "__pycache__" not in str(entry[0])}
    result = AlpacaEvalScorer().score(contender)
    after = {entry for entry in files_below(*watched) if "__pycache__" not in str(entry[0])}
    assert after == before

    expected = [winrate for _, _, winrate in ANSWERS.values()]
    rows = result.rows.sort_values("prompt_id")
    assert rows["prompt_id"].tolist() == [f"p{i}" for i in range(6)]
    assert rows["value"].tolist() == expected
    assert set(rows["decode"]) == {"T=1"}
    [score] = result.scores
    assert score.value == pytest.approx(3 / 6)
    assert score.value == pytest.approx(oracle["T=1", "winrate_first"])
    # standard error of the six verdicts, by hand: deviations .5 0 0 .5 .5 .5; sqrt(1 / 5) / sqrt(6)
    assert score.stderr == pytest.approx((1 / 5) ** 0.5 / 6**0.5)
    assert (score.num_samples, score.higher_is_better) == (6, True)


def test_alpaca_eval_is_imported_where_setuptools_has_no_pkg_resources(monkeypatch):
    real = importlib.import_module

    def without_pkg_resources(name):
        if name == "pkg_resources":  # gone since setuptools 82
            raise ModuleNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without_pkg_resources)
    monkeypatch.delitem(sys.modules, "pkg_resources", raising=False)
    assert import_alpaca_eval().__name__ == "alpaca_eval"
    stand_in = sys.modules["pkg_resources"]
    assert stand_in.parse_version("0.6.10") > stand_in.parse_version("0.6.6")
    assert stand_in.get_distribution("alpaca_eval").version == "0.6.6"
