"""The page: plain HTML that reads without JavaScript and works from a file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd

from halobench.leaderboard import published_text
from halobench.leaderboard.published import CONDITIONS, MARK
from halobench.leaderboard.published_text import BuiltPublished
from halobench.leaderboard.stats import LEVEL, MIN_SEEDS, POWER
from halobench.leaderboard.text import BuiltBoard, display_table

_FOLDER = Path(__file__).parent


def render_page(boards: Sequence[BuiltBoard], version: str, published: BuiltPublished | None = None) -> str:
    """Render index.html; every text from results is escaped, and only this page's own script may run."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = (_FOLDER / "script.js").read_text(encoding="utf-8")
    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    return environment.get_template("index.html.jinja").render(
        boards=[_board(board) for board in boards],
        published=None if published is None else _published(published),
        version=version,
        script=script,
        style=style,
        script_hash=_csp_hash(script),
        style_hash=_csp_hash(style),
        level=f"{LEVEL:.0%}",
        power=f"{POWER:.0%}",
        min_seeds=MIN_SEEDS,
    )


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _board(board: BuiltBoard) -> dict[str, object]:
    headers, rows = display_table(board)
    controls = [bool(control) for control in board.tables.rows["control"]]
    return {
        "id": board.stem,
        "suite": board.setting.suite,
        "setting": board.setting.setting_id,
        "metric": board.setting.board.metric,
        "margin": board.setting.board.margin,
        "headers": headers,
        "rows": [{"cells": cells, "control": control} for cells, control in zip(rows, controls, strict=True)],
        "notes": board.tables.notes,
        "contrasts": [_contrast(row) for _, row in board.tables.contrasts.iterrows()],
        "plots": [
            {
                "file": f"figures/{board.stem}-{plot.name}",
                "title": plot.title,
                "description": plot.description,
            }
            for plot in board.plots
        ],
    }


def _published(published: BuiltPublished) -> dict[str, object]:
    tables = published.tables
    return {
        "title": published_text.TITLE,
        "mark": MARK,
        "files": [name for name, table in tables._asdict().items() if not table.empty],
        "conditions": CONDITIONS,
        "counts": published_text.count_table(tables.counts),
        "claims_note": published_text.CLAIMS_NOTE,
        "summary": published_text.claim_summary(tables.claims),
        "claims": published_text.claim_lines(tables.claims),
        "scores": published_text.score_table(tables.scores) if len(tables.scores) else None,
        "scores_note": published_text.SCORES_NOTE,
        "plots": [
            {"file": f"published/{plot.name}", "title": plot.title, "description": plot.description}
            for plot in published.plots
        ],
    }


def _span(low: float, high: float) -> str:
    return "n/a" if pd.isna(low) else f"{low:+.3f} to {high:+.3f}"


def _contrast(row: pd.Series) -> list[str]:
    robust = {"True": "yes", "False": "no"}.get(str(row["robust"]), "")
    return [
        str(row["family"]),
        str(row["decode"]),
        f"{row['a']} - {row['b']}",
        f"{row['difference']:+.3f}",
        _span(row["low"], row["high"]),
        _span(row["adjusted_low"], row["adjusted_high"]),
        f"{row['p_holm']:.2g}",
        str(row["verdict"]),
        robust,
        f"{row['detectable']:.3f}",
    ]
