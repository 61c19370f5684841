"""Registries: suggestions, no name twice, built-ins that load late, plug-ins from files and packages."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from halobench import LOSSES, SOURCES, RecipeError, UnknownNameError
from halobench.registry import Registry, load_plugin

HEAVY = ("torch", "lightning", "transformers")


@pytest.fixture
def shapes(monkeypatch):
    """A registry with one built-in name and no installed packages."""
    monkeypatch.setattr("halobench.registry.entry_points", lambda group: [])
    return Registry("shape", builtins={"square": "tests.no_such_module"}, group="tests.shapes")


def announce(monkeypatch, **points):
    """Let installed packages announce names."""
    found = [EntryPoint(name, value, "tests.shapes") for name, value in points.items()]
    monkeypatch.setattr("halobench.registry.entry_points", lambda group: found)
    return Registry("shape", builtins={"square": "tests.no_such_module"}, group="tests.shapes")


def test_an_unknown_name_suggests_the_nearest_and_lists_all_sorted():
    with pytest.raises(UnknownNameError) as caught:
        LOSSES["ktoo"]
    message = str(caught.value)
    assert message.startswith("unknown loss 'ktoo' (did you mean 'kto'?); registered: ")
    names = message.partition("registered: ")[2].split(", ")
    assert names == sorted(names)
    assert {"csft", "dpo", "kto", "offline_ppo", "sft", "slic"} <= set(names)


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(UnknownNameError, match="unknown loss 'zzzzzz'; registered"):
        LOSSES["zzzzzz"]


def test_a_name_twice_is_refused_and_both_places_are_named(shapes):
    class First: ...

    class Second: ...

    shapes.register("circle", source="here")(First)
    lines = Path(__file__).read_text().splitlines()
    first, second = (lines.index(f"    class {name}: ...") + 1 for name in ("First", "Second"))
    with pytest.raises(RecipeError) as caught:
        shapes.register("circle", source="here")(Second)
    assert str(caught.value) == (
        f"shape 'circle' of {__file__}:{second} is already registered by {__file__}:{first}; "
        "choose another name"
    )
    assert shapes["circle"] is First


def test_the_name_of_a_builtin_is_taken_before_it_is_loaded(shapes):
    with pytest.raises(RecipeError, match=r"already registered by tests\.no_such_module; choose another"):
        shapes.register("square", source="here")(type(shapes))


def test_the_name_of_an_installed_package_is_taken(monkeypatch):
    shapes = announce(monkeypatch, circle="tests.no_such_module")
    with pytest.raises(
        RecipeError, match=r"already registered by the installed package tests\.no_such_module"
    ):
        shapes.register("circle", source="here")(type(shapes))


def test_an_installed_package_may_not_take_the_name_of_a_builtin(monkeypatch):
    shapes = announce(monkeypatch, square="other.module")
    with pytest.raises(
        RecipeError, match=r"already registered by tests\.no_such_module; uninstall or rename"
    ):
        list(shapes)


def test_an_installed_package_that_announces_but_does_not_register_is_named(monkeypatch):
    shapes = announce(monkeypatch, circle="json:dumps")
    assert list(shapes) == ["circle", "square"]
    with pytest.raises(
        RecipeError, match="announces shape 'circle' but json:dumps does not register it; decorate the class"
    ):
        shapes["circle"]


def test_an_installed_package_that_cannot_be_imported_is_named(monkeypatch):
    shapes = announce(monkeypatch, circle="tests.no_such_module")
    with pytest.raises(RecipeError, match=r"tests\.no_such_module"):
        shapes["circle"]


def test_names_and_summaries_of_builtins_load_nothing():
    # the summary of a built-in is the first line of its file
    code = f"""
import sys
from halobench.registry import JUDGES, LOSSES, SCORERS, SOURCES
registries = (JUDGES, LOSSES, SCORERS, SOURCES)
summaries = {{name: registry.summary(name) for registry in registries for name in registry}}
assert len(summaries) >= 13 and all(summaries.values()), summaries
assert summaries["dpo"] == "DPO: a logistic regression on the difference of implied rewards within a pair."
print([name for name in {HEAVY!r} if name in sys.modules])
LOSSES["dpo"]
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    before, after = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert before == "[]"
    assert "torch" in after  # so the check can fail


def test_the_summary_of_a_builtin_does_not_change_when_it_loads():
    code = """
from halobench.registry import LOSSES
before = LOSSES.summary("sft")
LOSSES["sft"]
assert LOSSES.summary("sft") == before, (before, LOSSES.summary("sft"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_origin_is_file_and_line_of_the_class():
    file, line = LOSSES.origin("dpo").rsplit(":", 1)
    lines = Path(file).read_text().splitlines()
    first = int(line) - 1
    assert Path(file).name == "dpo.py"
    assert any(text.startswith("class DPO(") for text in lines[first : first + 2])  # a decorator comes first


def test_a_plugin_is_imported_once_whatever_its_path_is_called(tmp_path, monkeypatch):
    plugin = tmp_path / "counted.py"
    plugin.write_text("with open('log', 'a') as file:\n    file.write('x')\n")
    monkeypatch.chdir(tmp_path)
    assert load_plugin(plugin) is load_plugin("counted.py")
    assert (tmp_path / "log").read_text() == "x"


def test_two_plugins_of_one_file_name_are_two_modules(tmp_path):
    modules = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"NAME = {folder!r}\n")
        modules.append(load_plugin(tmp_path / folder / "mine.py"))
    assert [module.NAME for module in modules] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("gone.py", None, "no such file; give the path of a Python file"),
        ("notes.txt", "x = 1\n", "not a Python file; its name must end in .py"),
        ("typo.py", "def broken(:\n", "cannot be imported: SyntaxError: "),
        ("needs.py", "import no_such_package\n", "cannot be imported: ModuleNotFoundError: No module named "),
        ("exits.py", "raise SystemExit(3)\n", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_plugin_that_cannot_be_used_says_why(tmp_path, name, text, reason):
    plugin = tmp_path / name
    if text is not None:
        plugin.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_plugin(plugin)
    assert str(caught.value).startswith(f"plug-in {plugin}: {reason}")


def test_a_plugin_that_failed_can_be_mended_and_loaded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES._entries))  # what it registers is forgotten
    plugin = tmp_path / "rows.py"
    text = "from halobench import SOURCES\n@SOURCES.register('rows', source='here')\nclass Rows: ...\n"
    plugin.write_text(text + "raise ValueError('not ready')\n")
    with pytest.raises(RecipeError, match="ValueError: not ready"):
        load_plugin(plugin)
    plugin.write_text(text)
    load_plugin(plugin)
    assert SOURCES["rows"].__name__ == "Rows"
