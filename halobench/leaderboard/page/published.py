"""The page of what others published."""

from __future__ import annotations

from typing import Any

from halobench.leaderboard import published_text
from halobench.leaderboard.published import CONDITIONS, MARK
from halobench.leaderboard.published_text import BuiltPublished


def published_context(published: BuiltPublished) -> dict[str, Any]:
    """What the template of others' numbers needs."""
    tables = published.tables
    return {
        "title": published_text.TITLE,
        "mark": MARK,
        "conditions": CONDITIONS,
        "counts": published_text.count_table(tables.counts),
        "claims_note": published_text.CLAIMS_NOTE,
        "summary": published_text.claim_summary(tables.claims),
        "claims": published_text.claim_lines(tables.claims),
        "scores": published_text.score_table(tables.scores) if len(tables.scores) else None,
        "scores_note": published_text.SCORES_NOTE,
        "figures": [
            {"file": f"published/{plot.name}", "title": plot.title, "text": plot.description}
            for plot in published.plots
        ],
    }
