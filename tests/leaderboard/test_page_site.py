"""The whole site: links lead somewhere, hostile texts stay texts, numbers can be read without a script."""

import base64
import hashlib
import html
import json
import posixpath
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from halobench.cli import main
from halobench.leaderboard.build import build, build_boards, write_csv
from halobench.leaderboard.figures import Plot
from halobench.leaderboard.page import render_pages
from halobench.leaderboard.page.samples import Showcase
from halobench.results.store import Store
from tests.leaderboard.synthetic import row, write_results

EVIL = '</script><script>alert(1)</script>"\x00\u202e\u2028<!--'
SHOWN = EVIL.replace("\x00", "\ufffd")
# a name stays in one line and turns nothing round
NAME = SHOWN.replace("\u202e", "\ufffd").replace("\u2028", " ")
PROMPTS = [f"p{index:03}" for index in range(6)]
LEVELS = {"dpo": 0.3, "kto": 0.7, EVIL: 0.5}


def table(level, seed):
    return level + np.random.default_rng(seed).normal(0, 0.05, (3, len(PROMPTS)))


def results(root):
    """Three losses, one with a hostile name, and the reference; the first seed has curves and samples."""
    runs = []
    for index, (label, level) in enumerate(LEVELS.items()):
        loss = label if label != EVIL else "slic"
        runs += row(loss, {"T=1": table(level, index), "T*": table(level, index + 9)}, label=label)
    runs += row("sft", table(0.4, 5), label="reference", evaluate="reference", control=True)
    runs = [run._replace(values={**run.values, ("T=1", "utility"): np.arange(6.0)}) for run in runs]
    store = write_results(root, runs, family=tuple(LEVELS))
    (root / "promptsets").mkdir()
    pd.DataFrame(
        {
            "prompt_id": PROMPTS,
            "group_id": PROMPTS,
            "prompt": [[{"role": "user", "content": f"ask {EVIL} {name}"}] for name in PROMPTS],
            "chosen": [["the preferred answer"] for _ in PROMPTS],
            "rejected": [["no"] for _ in PROMPTS],
        }
    ).to_parquet(root / "promptsets" / "0123456789ab.parquet")
    for run in runs:
        if run.recipe.seed > 0:
            continue
        folder = store.run_path(run.recipe.run_id)
        texts = [f"I am {run.recipe.loss['name']} {EVIL}", "same words", "", "x" * 1_000_000]
        pd.DataFrame(
            {"prompt_id": PROMPTS[:4], "decode": "T=1", "rep": np.int16(0), "text": texts}
        ).to_parquet(folder / "samples.parquet")
        curves = [(step, 10 * step, "loss", 1 / step) for step in (1, 2, 4)] + [(1, 10, EVIL, float("nan"))]
        pd.DataFrame(curves, columns=["step", "tokens", "metric", "value"]).to_parquet(
            folder / "curves.parquet"
        )
        [facts] = folder.glob("scores/*.json")
        facts.write_text(
            json.dumps({**json.loads(facts.read_text()), "config": {"prompts": "0123456789ab" * 5}})
        )
    return store


class Page(HTMLParser):
    """What a browser would make of a page: tags, texts by innermost tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.stack = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "input", "img", "br", "polyline", "path", "circle", "line", "rect"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag in self.stack:
            while self.stack.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.append((self.stack[-1] if self.stack else "", data))

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def inside(self, tag):
        return [text for where, text in self.texts if where == tag]

    @property
    def read(self):
        """All that can be read without a script, spaces made one."""
        return " ".join(" ".join(t for where, t in self.texts if where not in ("script", "style")).split())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Results and their pages; the figure, which no font can draw with such names, is an empty file."""
    root = tmp_path_factory.mktemp("site")
    store = results(root / "results")
    plot = Plot("scores", EVIL, EVIL, Figure(), pd.DataFrame())
    boards = [board._replace(plots=[plot]) for board in build_boards(store)]
    chosen = frozenset(board.stem for board in boards)
    files = dict(render_pages(boards, chosen, store.data_version()))
    files |= {f"figures/{boards[0].stem}-scores.{kind}": "" for kind in ("svg", "csv")}
    for name, text in files.items():
        (root / "board" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "board" / name).write_text(text, encoding="utf-8", newline="\n")
    for name in ("leaderboard", "contrasts", "cost"):
        key = {"leaderboard": "rows"}.get(name, name)
        write_csv(root / "board" / f"{name}.csv", [getattr(board.tables, key) for board in boards])
    return root


@pytest.fixture(scope="module")
def pages(site):
    folder = site / "board"
    return {str(path.relative_to(folder)): Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}


def of_kind(pages, kind):
    return {name: page for name, page in pages.items() if name.startswith(f"{kind}/")}


def test_there_is_a_page_of_every_kind(pages):
    assert {"index.html", "methods.html", "downloads.html"} <= set(pages)
    assert [len(of_kind(pages, kind)) for kind in ("setting", "contrast", "run")] == [1, 3, 4]


def test_every_link_leads_to_a_file_and_a_place_in_it(pages, site):
    files = {str(path.relative_to(site / "board")) for path in (site / "board").rglob("*")}
    followed = 0
    for name, page in pages.items():
        for _, attributes in page.tags:
            target = attributes.get("href") or attributes.get("src")
            if target is None:
                continue
            path, _, place = target.partition("#")
            there = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(path))) if path else name
            )
            assert there in files, f"{name}: {target}"
            if place:
                assert unquote(place) in {a["id"] for _, a in pages[there].tags if "id" in a}, (
                    f"{name}: {target}"
                )
            followed += 1
    assert followed > 100


def test_every_page_can_be_reached_from_the_board(pages):
    seen, todo = set(), ["index.html"]
    while todo:
        name = todo.pop()
        seen.add(name)
        links = [a["href"].partition("#")[0] for a in pages[name].of("a")]
        found = {posixpath.normpath(posixpath.join(posixpath.dirname(name), link)) for link in links if link}
        todo += sorted((found & set(pages)) - seen)
    assert seen == set(pages)


def test_ids_are_there_once(pages):
    for name, page in pages.items():
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), name


def test_only_the_own_script_and_style_may_run_on_any_page(pages, site):
    for name, page in pages.items():
        [policy] = [meta["content"] for meta in page.of("meta") if "http-equiv" in meta]
        rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
        text = (site / "board" / name).read_text()
        for tag in ("script", "style"):
            [own] = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
            assert rules[f"{tag}-src"] == [f"'sha256-{digest}'"]
        assert rules["default-src"] == ["'none'"]
        assert [a for a in page.of("script") if a] in ([], [{"type": "application/json", "id": "data"}])
        for _, attributes in page.tags:
            assert not any(key.startswith("on") or key == "style" for key in attributes)


def test_hostile_names_and_texts_are_only_texts(pages, site):
    for name in pages:
        text = (site / "board" / name).read_text()
        assert "alert(1)</script>" not in text, name
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", text), name
        assert len(re.findall("<script[ >]", text)) == len(re.findall("</script>", text)) <= 2, name
    assert NAME in pages["index.html"].inside("bdi")
    [setting] = of_kind(pages, "setting").values()
    assert NAME in setting.inside("bdi")
    assert any(NAME in page.inside("bdi") for page in of_kind(pages, "contrast").values())
    for page in of_kind(pages, "run").values():
        assert any(f"ask {SHOWN} p000" in text for text in page.inside("h3"))


def test_the_data_of_the_script_holds_the_hostile_names_whole(pages, site):
    [data] = re.findall(r'id="data">(.*?)</script>', (site / "board" / "index.html").read_text(), re.DOTALL)
    assert set(json.loads(data)) == {"verdicts", "columns", "boards"}


def test_the_numbers_of_the_tables_can_be_read_without_a_script(pages, site):
    [setting] = of_kind(pages, "setting").values()
    rows = pd.read_csv(site / "board" / "leaderboard.csv")
    for line in rows.to_dict("records"):
        for key in ("winrate", "winrate_star"):
            if not np.isnan(line[key]):
                text = f"{line[key]:.3f} [{line[f'{key}_low']:.3f}, {line[f'{key}_high']:.3f}]"
                assert text in pages["index.html"].read
                assert text in setting.read
    for line in pd.read_csv(site / "board" / "contrasts.csv").to_dict("records"):
        for low, high in (("low", "high"), ("adjusted_low", "adjusted_high")):
            text = f"{line[low]:+.3f} to {line[high]:+.3f}"
            assert text in setting.read
            assert any(text in page.read for page in of_kind(pages, "contrast").values())


def test_letters_stand_beside_ranks(pages):
    # kto is far above the others, which are far apart: each of the three has a letter of its own
    rows = re.findall(r"(\d) ([abc]) (kto|dpo|</script>)", pages["index.html"].read)
    assert sorted(rows) == [("1", "a", "kto"), ("2", "b", "</script>"), ("3", "c", "dpo")]


def contrast(pages, first, second):
    [page] = [
        p for name, p in of_kind(pages, "contrast").items() if name.endswith(f"--{first}-vs-{second}.html")
    ]
    return page


def test_the_page_of_a_comparison_says_it_in_words_and_by_seed(pages):
    page = contrast(pages, "dpo", "kto")
    assert "dpo is worse than kto." in page.read
    differences = (table(0.3, 0) - table(0.7, 1)).mean(axis=1)
    for seed, difference in enumerate(differences):
        assert f"{seed} {difference:+.3f}" in page.read


def test_answers_stand_side_by_side_with_their_words_marked(pages):
    page = contrast(pages, "dpo", "kto")
    assert "".join(page.inside("del")).split()[:1] == ["dpo"]
    assert "".join(page.inside("ins")).split()[:1] == ["kto"]
    assert "(empty)" in page.read
    assert page.read.count("998000 further characters are left out.") == 2
    assert "utility +3.00" in page.read
    # dpo wins less than half, kto more: all four prompts are disagreements
    assert [("data-disagree" in article) for article in page.of("article")] == [True] * 4


def test_a_run_stands_beside_the_reference_and_the_reference_beside_the_preferred_answer(pages, site):
    store = Store(site / "results")
    [board] = build_boards(store)
    runs = {row.name: row.records[0].run_id for row in board.setting.rows}
    kto = pages[f"run/{runs['kto']}.html"]
    assert f"beside the reference, T=1 ( {runs['reference']}" in kto.read
    assert "the preferred answer" in pages[f"run/{runs['reference']}.html"].read
    assert f"halobench results verify {runs['kto']}" in kto.read
    assert "name: kto" in kto.read
    assert "loss: 1 at step 1, 0.25 at step 4" in [svg["aria-label"] for svg in kto.of("svg")]


def test_without_samples_a_page_says_so(tmp_path):
    write_results(tmp_path / "results", [*row("dpo", table(0.3, 1)), *row("kto", table(0.5, 2))])
    build(tmp_path / "results", tmp_path / "board")
    for name in ("contrast/*.html", "run/kto*.html"):
        [page] = (tmp_path / "board").glob(name)
        assert "No answers are stored" in page.read_text()


def test_a_setting_that_is_not_chosen_has_its_page_alone(site):
    found = dict(render_pages(build_boards(Store(site / "results")), set(), "v"))
    [setting] = [name for name in found if name.startswith("setting/")]
    assert set(found) == {"index.html", "methods.html", "downloads.html", setting}
    assert "halobench plot" in found[setting]
    links = {html.unescape(link) for text in found.values() for link in re.findall('href="([^"#]*)', text)}
    assert not any("contrast/" in link or "run/" in link for link in links)


def test_each_file_of_samples_is_read_once(site, monkeypatch):
    store = Store(site / "results")
    run_ids = [run_id for run_id in store.run_ids() if (store.run_path(run_id) / "samples.parquet").is_file()]
    reads = []
    read = pd.read_parquet
    monkeypatch.setattr(
        pd, "read_parquet", lambda path, **options: reads.append(path) or read(path, **options)
    )
    showcase = Showcase(store)
    for left in run_ids:
        for right in run_ids:
            assert len(showcase.pairs(left, right, "T=1")) == 4
    assert len(reads) == len(set(reads))


def test_the_page_of_any_run_can_be_written(site, tmp_path, capsys):
    store = Store(site / "results")
    run_id = next(run_id for run_id in store.run_ids() if run_id.startswith("kto-s1-"))
    file = tmp_path / "run.html"
    arguments = ["show", run_id, "--page", str(file), "--results", str(site / "results")]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"page: {file}\n"
    page = Page(file.read_text())
    assert f"Run {run_id} of suite synthetic" in page.read
    assert {link["href"].partition("#")[0] for link in page.of("a")} == {""}  # leads nowhere else


def test_the_page_of_what_is_no_run_is_refused(site, tmp_path, capsys):
    arguments = ["show", "kto", "--page", str(tmp_path / "x.html"), "--results", str(site / "results")]
    assert main(arguments) == 2
    assert "run 'kto': is not in" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_the_methods_have_every_formula_in_their_contents(pages):
    page = pages["methods.html"]
    listed = [a["href"][1:] for a in page.of("a") if a["href"].startswith("#")][1:]
    assert listed == [a["id"] for a in page.of("h2")]
    assert "\u03bd = max(1" in page.read
