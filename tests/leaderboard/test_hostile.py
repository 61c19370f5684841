"""Hostile results: what is built of them is text, in every file, and what cannot be shown is refused."""

import csv
import json
import re

import pytest
from markdown_it import MarkdownIt

from halobench.cli import main
from halobench.errors import ResultsError
from halobench.leaderboard.build import build
from halobench.results.published import load_published
from tests.leaderboard.hostile import TEXTS, write_hostile

pytestmark = [
    pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning"),
    pytest.mark.filterwarnings("ignore:constrained_layout not applied:UserWarning"),
]
# as a name is shown: in one line, without what is not seen
SHOWN = {
    "table": "a | b\\| `c | d | # e",
    "override": "a\ufffdb\ufffdc\ufffdd",
    "separators": "a b c d",
    "controls": "a\ufffdb\ufffdc\ufffd[31md\ufffde\ufffdf",
    "tab": "=1+1",
    "return": "=1+1",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    write_hostile(root / "results")
    build(root / "results", root / "board")
    return root


def cells(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def is_formula(cell):
    try:
        float(cell)
    except ValueError:
        return cell.startswith(("=", "+", "-", "@", "\t", "\r")) and cell != "-"
    return False


def names_in(file):
    """Names of the rows of the longer board in a table, unguarded."""
    head, *rows = cells(file)
    names = [dict(zip(head, line, strict=True)) for line in rows]
    return [re.sub("^'(?=[=+@-])", "", line["row"]) for line in names if not line["suite"].startswith("long")]


def test_no_cell_of_any_table_is_a_formula(built, tmp_path):
    exported = tmp_path / "scores.csv"
    assert main(["results", "export", "--csv", str(exported), "--results", str(built / "results")]) == 0
    files = [*(built / "board").rglob("*.csv"), exported]
    formulas = [
        (file.name, cell) for file in files for line in cells(file) for cell in line if is_formula(cell)
    ]
    assert len(files) > 8
    assert formulas == []


def test_every_name_has_its_row_in_one_line(built):
    names = names_in(built / "board" / "leaderboard.csv")
    for name, text in TEXTS.items():
        if name == "megabyte":
            assert any(re.fullmatch(r"long x{195}\.\.\. [0-9a-f]{8}", shown) for shown in names)
        else:
            shown = SHOWN.get(name, text)
            assert any(found == shown or found.startswith(f"{shown} (") for found in names), name
    assert len(names) == len(set(names)) == len(TEXTS) + 3  # dpo, kto, and all texts in one


def test_markdown_shows_the_names_and_nothing_that_they_make(built):
    tokens = MarkdownIt("commonmark").enable("table").parse((built / "board" / "README.md").read_text())
    inline = [child for token in tokens for child in token.children or []]
    assert {token.type for token in [*tokens, *inline]}.isdisjoint(
        {"html_block", "html_inline", "link_open", "fence", "code_block"}
    )
    assert {child.attrs["src"].split("/")[0] for child in inline if child.type == "image"} == {
        "figures",
        "published",
    }
    contents = [
        "".join(child.content for child in token.children) for token in tokens if token.type == "inline"
    ]
    for name in names_in(built / "board" / "leaderboard.csv"):
        assert name in contents


def test_no_file_has_a_control_character_and_no_table_turns_the_text_round(built):
    for file in (built / "board").rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", text), file
            if file.suffix in {".csv", ".md"}:
                assert not re.search("[\u202a-\u202e\u2066-\u2069]", text), file


def test_files_have_plain_names(built):
    files = [file.relative_to(built / "board") for file in (built / "board").rglob("*")]
    assert [str(file) for file in files if not re.fullmatch(r"[\w./-]{1,200}", str(file))] == []


def test_an_id_that_could_be_a_path_is_refused(built, tmp_path, capsys):
    file = tmp_path / "suites" / "evil" / "0.json"
    file.parent.mkdir(parents=True)
    [note] = (built / "results" / "suites" / "short").iterdir()
    document = json.loads(note.read_text())
    document["points"][0]["run_id"] = "../../elsewhere"
    file.write_text(json.dumps(document))
    assert main(["leaderboard", "--results", str(tmp_path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "points.0.run_id" in line


def test_a_published_cell_without_end_is_refused_by_its_line(tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "simpo.csv").write_text(f"name,model\nx,{TEXTS['megabyte']}\n")
    with pytest.raises(ResultsError, match=r"simpo\.csv:1: field larger than field limit .* copy it again"):
        load_published(tmp_path)
