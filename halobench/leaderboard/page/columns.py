"""Names of a board's numbers, in groups, for choosing columns."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from halobench.leaderboard.text import cell_text

_GROUPS: dict[str, dict[str, str]] = {
    "Win rates": {
        "winrate": "Win rate, T=1",
        "winrate_star": "Win rate, T*",
        "winrate_greedy": "Win rate, greedy",
        "winrate_reference": "Beats reference",
        "winrate_alpaca_eval": "Win rate, alpaca_eval",
        "sft_at_same_entropy": "SFT as sure",
        "beyond_sharpening": "Beyond SFT as sure",
    },
    "Utility": {
        "utility": "Utility",
        "utility_q05": "Utility, 5% quantile",
        "task": "Task",
        "truth": "Truth",
        "manners": "Manners",
        "brevity": "Brevity",
        "form": "Form",
    },
    "Texts": {
        "kl": "KL, nats",
        "entropy": "Entropy, nats",
        "length": "Length, tokens",
        "ended": "Ended",
        "distinct": "Distinct",
        "collapsed": "Collapsed answers",
        "collapses": "Collapsed seeds",
        "collapse": "P(collapse)",
        "temperature_star": "T*",
        "temperature_same_entropy": "T as sure",
    },
    "Implied reward": {
        "accuracy": "Reward accuracy",
        "accuracy_gold": "Accuracy, true utility",
        "always_longer": "Always longer",
        "auc": "AUC",
        "auc_always_longer": "AUC of longer",
        "margin": "Margin, nats",
        "chosen_drift": "Chosen drift, nats",
        "rejected_drift": "Rejected drift, nats",
    },
    "Retained skills": {
        f"{skill}_{metric}": f"{skill.capitalize()}, {name}"
        for skill in ("sort", "pick", "facts")
        for metric, name in (("accuracy", "accuracy"), ("gold_logp", "log p"))
    },
    "Effort": {
        "seeds": "Seeds",
        "seeds_missing": "Seeds missing",
        "seeds_diverged": "Seeds diverged",
        "seed_sd": "SD of seeds",
        "budget_multiple": "Budget",
        "steps": "Steps",
        "completions": "Completions",
        "tokens": "Tokens",
        "flops": "FLOPs",
        "tuning_trials": "Tuning trials",
        "tuning_seeds": "Tuning seeds",
    },
}
_OTHER = "Other"
_PLACES = {key: (group, title) for group, titles in _GROUPS.items() for key, title in titles.items()}
_NO_NUMBERS = {"control", "rank_low", "rank_high"}


class Numbers(NamedTuple):
    """A column of numbers.

    Attributes:
        key: of the rows.
        title: in words.
        group: that it is offered in.
    """

    key: str
    title: str
    group: str


def numeric_columns(frames: Iterable[pd.DataFrame]) -> list[Numbers]:
    """Every column of numbers that any of the boards has, by group; ends of intervals belong to theirs."""
    present: set[str] = set()
    for frame in frames:
        keys = set(frame.columns)
        numeric = (k for k, kind in frame.dtypes.items() if pd.api.types.is_numeric_dtype(kind))
        present |= {_interval_of(str(key), keys) for key in numeric if key not in _NO_NUMBERS}
    known = [Numbers(key, title, group) for key, (group, title) in _PLACES.items() if key in present]
    rest = sorted(key for key in present if key not in _PLACES)
    return known + [Numbers(key, key.replace("_", " ").capitalize(), _OTHER) for key in rest]


def _interval_of(key: str, keys: set[str]) -> str:
    for end in ("_low", "_high"):
        stem = key.removesuffix(end)
        if stem != key and {f"{stem}_low", f"{stem}_high"} <= keys:
            return stem
    return key


def number_text(record: Mapping[Hashable, Any], key: str) -> str:
    """A number with its interval: three digits behind the point, or none where it counts something."""
    value = record.get(key)
    if value is None:  # an interval alone, as that of P(collapse)
        low, high = record.get(f"{key}_low"), record.get(f"{key}_high")
        return "" if low is None or pd.isna(low) else f"{low:.3f} to {high:.3f}"
    if pd.isna(value):
        return ""
    if f"{key}_low" not in record and (float(value).is_integer() or abs(value) >= 1000):
        return f"{value:.0f}" if abs(value) < 1e6 else f"{value:.3g}"
    return cell_text(record, key, "interval")
