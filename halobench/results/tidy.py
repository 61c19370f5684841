"""`export`: all scores of a store as one tidy table."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from halobench.results.journal import retractions
from halobench.results.store import Store
from halobench.storage import atomic_file

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def tidy(store: Store) -> pd.DataFrame:
    """One row per run, scorer, task and metric; those of retracted runs say so."""
    table = store.results()
    return table.assign(retracted=table["run_id"].isin(list(retractions(store))).astype(bool))


def write_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table for spreadsheets; a text that one would take for a formula gets a ' in front."""
    with atomic_file(file) as temporary:
        # all texts in quotes, or else one with a carriage return would be two rows
        table.map(harmless).to_csv(
            temporary, index=False, lineterminator="\n", encoding="utf-8", quoting=csv.QUOTE_NONNUMERIC
        )


def harmless(value: object) -> object:
    """Put a ' before a text that a spreadsheet would take for a formula; what is no text passes."""
    is_formula = isinstance(value, str) and value.startswith(_FORMULA) and value != "-"
    return f"'{value}" if is_formula else value


def write_parquet(table: pd.DataFrame, file: Path) -> None:
    """Write a table for programs."""
    with atomic_file(file) as temporary:
        table.to_parquet(temporary, compression="zstd", index=False)
