"""Sites to look at, and the kinds of their pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from halobench.leaderboard.build import build
from tests.leaderboard.synthetic import Run, make_recipe, row, write_results

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
COMPONENTS = ("task", "truth", "manners", "brevity", "form")


def table(level: float, seed: int) -> np.ndarray:
    """Win rates of three seeds and eight prompts."""
    return level + np.random.default_rng(seed).normal(0, 0.1, (3, 8))


def suite(**changes: object) -> list[Run]:
    """Three ranked losses, one with a diverged seed, one outside the family, and the reference."""
    runs = [
        *row("csft", table(0.3, 8)[:2], **changes),
        Run(make_recipe("csft", seed=2, **changes), status="diverged"),
        *row("sft", table(0.2, 7), label="reference", evaluate="reference", control=True, **changes),
    ]
    for index, (loss, level) in enumerate([("dpo", 0.3), ("kto", 0.5), ("slic", 0.4)]):
        runs += row(loss, {"T=1": table(level, index), "T*": table(level + 0.1, 9 + index)}, **changes)
    stream = np.random.default_rng(11)
    return [
        run._replace(
            values={**run.values, **{("T=1", name): stream.normal(0, 1, 8) for name in COMPONENTS}},
            aggregates={("T=1", "distinct"): 1 / 3},
        )
        if run.values
        else run
        for run in runs
    ]


def write_site(root: Path) -> Path:
    """Build a site with everything that a site may have.

    Returns:
        Its folder.
    """
    results = root / "results"
    for changes in ({}, {"suite": "studies/wider", "model.architecture.hidden_size": 16}):
        write_results(results, suite(**changes), family=("csft", "dpo", "kto"))
    shutil.copytree(PUBLISHED, results / "published")
    build(results, root / "site")
    return root / "site"


def page_kinds(site: Path) -> dict[str, Path]:
    """The largest page of every kind: pages of a folder are of one kind, each other page is its own."""
    pages = sorted(site.rglob("*.html"), key=lambda page: (page.stat().st_size, page.name))
    return {page.relative_to(site).parts[0]: page for page in pages}
