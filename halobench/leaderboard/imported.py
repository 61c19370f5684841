"""Numbers of other programs (`results import`), shown beside the boards: as they came, never ranked."""

from __future__ import annotations

import pandas as pd

from halobench.leaderboard.published_text import markdown_lines
from halobench.results.imports import NULL, import_names, read_import
from halobench.results.store import Store

TITLE = "Imported"
MARK = "imported, never ranked"
NOTE = (
    "Numbers that other programs wrote, as they wrote them. Their data, prompts and seeds are not ours: they "
    "are not ranked, and compared with nothing."
)
_COLUMNS = [
    "import",
    "source",
    "checkpoint",
    "task",
    "metric",
    "value",
    "stderr",
    "num_samples",
    "num_failed",
    "if_failed_lost",
    "if_failed_won",
    "mark",
]


def imported_table(store: Store) -> pd.DataFrame:
    """One row per number of every import; win rates with what they would be had no judgement failed."""
    rows = []
    for name in import_names(store):
        found = read_import(store, name)
        for score in found.scores:
            failed = score.counts.get(NULL)
            judged = score.num_samples or 0
            wins, asked = score.value * judged, judged + (failed or 0)
            rows.append(
                {
                    "import": name,
                    "source": found.source,
                    "checkpoint": score.checkpoint,
                    "task": score.task,
                    "metric": score.metric,
                    "value": score.value,
                    "stderr": score.stderr,
                    "num_samples": score.num_samples,
                    "num_failed": failed,
                    "if_failed_lost": wins / asked if failed else None,
                    "if_failed_won": (wins + failed) / asked if failed else None,
                    "mark": MARK,
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"num_samples": "Int64", "num_failed": "Int64"})


def imported_lines(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headers and rows as text; of what a training logged by step the last step."""
    headers = [
        "Import",
        "Program",
        "Checkpoint",
        "Task",
        "Metric",
        "Value",
        "Error",
        "Prompts",
        "Judge failed",
    ]
    return headers, [
        [
            *(" ".join(str(row[key]).split()) for key in _COLUMNS[:5]),
            f"{row['value']:.4g}",
            "" if pd.isna(row["stderr"]) else f"{row['stderr']:.2g}",
            "" if pd.isna(row["num_samples"]) else str(int(row["num_samples"])),
            _failed(row),
        ]
        for _, row in _shown(table).iterrows()
    ]


def imported_markdown(table: pd.DataFrame) -> list[str]:
    """Lines of the section."""
    lines = [f"## {TITLE}", "", f"- {NOTE}"]
    earlier = len(table) - len(_shown(table))
    if earlier:
        lines.append(
            f"- Of trainings the last logged step; {earlier} numbers of earlier steps are in `imported.csv`."
        )
    return [*lines, "", *markdown_lines(*imported_lines(table)), ""]


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """All rows, but of a training's logs those that no later step replaces."""
    is_log = table["source"] == "trl"
    last = table[is_log].sort_values("checkpoint").drop_duplicates(["import", "task", "metric"], keep="last")
    return table[~is_log | table.index.isin(last.index)]


def _failed(row: pd.Series) -> str:
    if pd.isna(row["num_failed"]):
        return ""
    return f"{int(row['num_failed'])}, so {row['if_failed_lost']:.4g} to {row['if_failed_won']:.4g}"
