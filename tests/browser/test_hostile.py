"""Hostile results in Chromium: text on every page, and nothing but text."""

import csv
from urllib.parse import quote

import pytest

from halobench.leaderboard.build import build
from tests.browser.axe import violations
from tests.browser.sites import page_kinds
from tests.leaderboard.hostile import ALL, TEXTS, write_hostile
from tests.leaderboard.test_hostile import is_formula, names_in

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning"),
    pytest.mark.filterwarnings("ignore:constrained_layout not applied:UserWarning"),
]
# what no template of ours makes
STRANGE = """() => [...document.querySelectorAll("*")].filter(e =>
  e.getAttributeNames().some(name => /^(on.*|action|srcdoc|autofocus|style)$/.test(name))
  || ["IFRAME", "OBJECT", "EMBED", "BASE", "TEXTAREA", "LINK"].includes(e.tagName)
  || e.tagName === "SCRIPT" && (e.src || e.parentElement !== document.body)
  || e.tagName === "IMG" && !/^(\\.\\.[/])?(figures|published)[/]/.test(e.getAttribute("src"))
  || e.tagName === "A" && e.protocol !== "file:"
).map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="package")
def hostile(tmp_path_factory):
    """A site made of hostile results."""
    root = tmp_path_factory.mktemp("hostile")
    write_hostile(root / "results")
    build(root / "results", root / "site")
    return root / "site"


def test_nothing_of_it_runs_or_becomes_an_element(visit, hostile):
    pages = [*hostile.glob("*.html"), *hostile.glob("[!r]*/*.html"), *sorted(hostile.glob("run/*.html"))[:4]]
    assert len(pages) > 20
    page = visit(pages[0])
    strange = {}
    for file in pages:
        page.goto(file.as_uri())
        strange[file.name] = page.evaluate(STRANGE)
        assert page.locator("script").count() <= 2
    assert {name: found for name, found in strange.items() if found} == {}


def test_names_are_shown_as_they_are(visit, hostile):
    shown = visit(hostile / "index.html").locator("#board tbody").first.locator("tr:not(.group) th")
    assert sorted(shown.all_text_contents()) == sorted(names_in(hostile / "leaderboard.csv"))


def test_prompts_and_answers_are_shown_as_they_are(visit, hostile):
    page = visit(page_kinds(hostile)["run"])
    prompts = page.locator(".samples h3").all_text_contents()
    answers = page.locator(".samples .text").all_text_contents()
    for name in (
        "script",
        "end",
        "title",
        "picture",
        "template",
        "override",
        "separators",
        "emoji",
        "equals",
    ):
        text = TEXTS[name].replace("\x85", "\ufffd")
        assert text in prompts
        assert any(answer.startswith(text) for answer in answers)
    [long] = [prompt for prompt in prompts if prompt.startswith("long ")]
    assert len(long) < 3000
    assert long.endswith("further characters are left out)")


def test_axe_finds_nothing(visit, hostile):
    found = {kind: violations(visit(page)) for kind, page in page_kinds(hostile).items()}
    assert {kind: problems for kind, problems in found.items() if problems} == {}


def test_every_figure_can_be_drawn(visit, hostile):
    page = visit(page_kinds(hostile)["setting"])
    sizes = page.evaluate("""() => Promise.all([...document.images].map(async image => {
      image.loading = "eager";
      await image.decode();
      return image.naturalWidth;
    }))""")
    assert sizes
    assert min(sizes) > 100


@pytest.mark.parametrize("kind", ["index.html", "run"])
def test_no_cell_of_a_download_is_a_formula(visit, hostile, kind):
    page = visit(page_kinds(hostile)[kind])
    with page.expect_download() as download:
        page.locator("[data-do=csv]").first.click()
    with open(download.value.path(), newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert len(cells) > 5
    assert [cell for cell in cells if is_formula(cell)] == []


@pytest.mark.parametrize(
    "address",
    [
        f"q={quote(ALL)}",
        f"sort={quote(TEXTS['picture'])}&columns={quote(TEXTS['script'])}",
        "sort=__proto__&columns=constructor,toString&baseline=__proto__&suite=x",
        quote(TEXTS["picture"]),
        "%00&=&&%E0%A4%A",
    ],
)
def test_a_hostile_address_does_nothing(visit, hostile, address):
    page = visit(hostile / "index.html", address)
    assert page.evaluate(STRANGE) == []
    assert "rows in" in page.locator("#board [role=status]").inner_text()
