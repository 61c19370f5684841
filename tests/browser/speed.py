"""How fast the board of 2,000 rows sorts and filters in Chromium: `python -m tests.browser.speed`.

Prints medians of five in milliseconds, of the script with the layout that it causes, and until it is painted.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from playwright.sync_api import sync_playwright

from halobench.leaderboard.page import render_pages
from halobench.leaderboard.text import BuiltBoard
from tests.leaderboard.synthetic import read_board, row, write_results

NUM_SETTINGS = 200
NUM_ROWS = 10
ACTIONS = {
    "sort by a number": "() => document.querySelector('#board th[data-key=primary] button').click()",
    "sort by name": "() => document.querySelector('#board th[data-key=row] button').click()",
    "filter by a letter": "turn => choose('q', turn % 2 ? '' : '7')",
    "filter by loss": "turn => choose('loss', turn % 2 ? '' : 'dpo')",
    "pin a baseline": "turn => choose('baseline', turn % 2 ? '' : 'kto-3')",
    "add a column": "turn => document.querySelectorAll('#board [name=column]:not(:checked)')[turn].click()",
}
CHOOSE = """() => { window.choose = (name, value) => {
  const control = document.querySelector(`#board [name=${name}]`);
  control.value = value;
  control.dispatchEvent(new Event("input", {bubbles: true}));
} }"""
TIME = """turn => new Promise(done => requestAnimationFrame(() => {
  const start = performance.now();
  (ACTION)(turn);
  document.body.getBoundingClientRect();
  const laidOut = performance.now() - start;
  requestAnimationFrame(() => setTimeout(() => done([laidOut, performance.now() - start])));
}))"""


def boards(root: Path) -> Sequence[BuiltBoard]:
    """The same small board under many names."""
    stream = np.random.default_rng(0)
    labels = [f"{loss}-{number}" for number in range(NUM_ROWS // 2) for loss in ("dpo", "kto")]
    runs = [
        run
        for number, label in enumerate(labels)
        for run in row(
            {"name": label[:3], "beta": 0.1 + number / 100},
            {decode: stream.normal(0.4, 0.1, (3, 8)) for decode in ("T=1", "T*")},
            label=label,
        )
    ]
    board = read_board(write_results(root, runs, family=tuple(labels)))
    return [
        board._replace(setting=replace(board.setting, suite=f"suite/{number}"), stem=f"suite-{number}")
        for number in range(NUM_SETTINGS)
    ]


def main() -> None:
    """Render the board, act on it, print what it took."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "index.html"
        _, text = next(render_pages(boards(Path(folder) / "results"), set(), "speed"))
        file.write_text(text, encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(file.as_uri())
        load = "() => performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
        print(f"{page.locator('#board [role=status]').inner_text()}, {len(text) / 1e6:.1f} MB")
        print(f"{'ready after':20} {page.evaluate(load):7.0f}")
        page.evaluate(CHOOSE)
        for name, action in ACTIONS.items():
            times = [page.evaluate(TIME.replace("ACTION", action), turn) for turn in range(5)]
            script, painted = (median(column) for column in zip(*times, strict=True))
            print(f"{name:20} {script:7.0f} {painted:7.0f}")
        browser.close()


if __name__ == "__main__":
    main()
