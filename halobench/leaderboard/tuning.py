"""What a search for hyper-parameters found: every setting on dev prompts, and which one would be chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from halobench.leaderboard.contrasts import SECOND_DECODE
from halobench.leaderboard.cube import PRIMARY_DECODE
from halobench.results.journal import retractions
from halobench.results.record import RunRecord
from halobench.results.store import Store, SuiteFile, SuitePoint
from halobench.search import label_of

# What those have to go by who know no true quality: the labels of held-out answers.
LABELS = "labels"
_LABEL_METRICS = ("implied_reward/accuracy", "implied_reward/auc")


class Tuning(NamedTuple):
    """What the search of a suite found.

    Attributes:
        suite: its name.
        metric: that chooses, scorer/metric; at both primary temperatures where texts are sampled.
        missing: runs that are not recorded yet.
        settings: one row per setting: its values, its mean over seeds and temperatures as `score`, each
            temperature's, and what held-out labels say of it as `labels`.
        best: the expected best of n drawn settings, for every loss and n.
        chosen: one row per loss: the scores of its default, of the median drawn setting, of the best, and of
            the one that the labels choose.
    """

    suite: str
    metric: str
    missing: int
    settings: pd.DataFrame
    best: pd.DataFrame
    chosen: pd.DataFrame


def tunings(store: Store) -> list[Tuning]:
    """Read every search of a results folder, by suite."""
    notes: dict[str, list[SuiteFile]] = {}
    for note in store.suites():
        notes.setdefault(note.suite, []).append(note)
    retracted = retractions(store)
    found = []
    for suite, files in sorted(notes.items()):
        points = _searched(store, [point for note in files for point in note.points if not point.control])
        records = {
            run_id: store.record(run_id)
            for run_id in points
            if run_id not in retracted and store.has_run(run_id)
        }
        labelled = [
            (points[key].label, record) for key, record in records.items() if record.budget is not None
        ]
        if labelled:
            missing = len(points.keys() - records.keys() - retracted.keys())
            found.append(_tuning(suite, files[0].board.metric, missing, labelled))
    return found


def _searched(store: Store, points: Sequence[SuitePoint]) -> dict[str, SuitePoint]:
    """Points of the settings that were judged on dev prompts; the runs of a setting are all of one kind."""
    first = {point.setting_id: point.run_id for point in reversed(points) if store.has_run(point.run_id)}
    kinds = {setting_id: store.record(run_id).kind for setting_id, run_id in first.items()}
    return {point.run_id: point for point in points if kinds.get(point.setting_id) == "tuning"}


def _tuning(suite: str, metric: str, missing: int, runs: Sequence[tuple[str, RunRecord]]) -> Tuning:
    by_setting: dict[tuple[str, str], list[RunRecord]] = {}
    for label, record in runs:
        by_setting.setdefault((str(record.recipe["loss"]["name"]), label), []).append(record)
    every = [record for _, record in runs]
    varied = _varied(every)
    tasks = [t for t in (PRIMARY_DECODE, SECOND_DECODE) if any(_scores(r, metric, t) for r in every)]
    labels = next((key for key in _LABEL_METRICS if any(_scores(r, key, None) for r in every)), None)
    settings = [
        {
            "suite": suite,
            "loss": loss,
            "setting": label,
            "is_default": label == label_of(loss, None),
            **{key: _values(records[0])[key] for key in varied[loss]},
            "seeds": len(records),
            "diverged": sum(record.status != "completed" for record in records),
            **_measured(records, metric, tasks),
            **({} if labels is None else {LABELS: _mean(records, labels, None)}),
        }
        for (loss, label), records in sorted(by_setting.items())
    ]
    best, chosen = [], []
    for loss in sorted(varied):
        own = [setting for setting in settings if setting["loss"] == loss]
        drawn = np.array([setting["score"] for setting in own if not setting["is_default"]])
        best += [
            {"suite": suite, "loss": loss, "settings": count, "best": value}
            for count, value in enumerate(expected_best(drawn), 1)
        ]
        chosen.append({"suite": suite, **_choice(loss, own, drawn)})
    return Tuning(suite, metric, missing, pd.DataFrame(settings), pd.DataFrame(best), pd.DataFrame(chosen))


def _varied(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """For each loss the keys in which its settings differ."""
    seen: dict[str, dict[str, set[str]]] = {}
    for record in records:
        keys = seen.setdefault(str(record.recipe["loss"]["name"]), {})
        for key, value in _values(record).items():
            keys.setdefault(key, set()).add(str(value))
    return {
        loss: sorted(key for key, values in keys.items() if len(values) > 1) for loss, keys in seen.items()
    }


def _values(record: RunRecord) -> dict[str, Any]:
    loss = {f"loss.{key}": value for key, value in record.recipe["loss"].items() if key != "name"}
    return loss | {f"optim.{key}": value for key, value in record.recipe["optim"].items()}


def _measured(records: Sequence[RunRecord], metric: str, tasks: Sequence[str]) -> dict[str, float]:
    """Mean of the metric over seeds, at each temperature and over them; without any, over seeds alone."""
    by_task = {f"score, {task}": _mean(records, metric, task) for task in tasks}
    return {"score": float(np.mean(list(by_task.values()) or [_mean(records, metric, None)])), **by_task}


def _mean(records: Sequence[RunRecord], metric: str, task: str | None) -> float:
    """Mean over seeds; one that diverged counts as nothing, the least that a rate can be."""
    found = [_scores(record, metric, task) or [0.0] for record in records]
    return float(np.mean([values[0] for values in found]))


def _scores(record: RunRecord, metric: str, task: str | None) -> list[float]:
    if record.status != "completed":
        return []
    return [
        score.value
        for score in record.scores
        if f"{score.scorer}/{score.metric}" == metric and task in (None, score.task)
    ]


def expected_best(scores: Float[np.ndarray, " settings"]) -> Float[np.ndarray, " settings"]:
    """The expected best score of n settings, for n from 1 to all of them.

    E_n = sum_i v_(i) C(i - 1, n - 1) / C(N, n), v_(i) the i-th smallest of N: the mean over all choices of n
    of the N settings, so the last is the best of all.

    Args:
        scores: (N,) of the drawn settings.

    Returns:
        (N,) for n = 1 .. N.

    Source: Dodge et al. 2019, arXiv:1909.03004, there with replacement.
    """
    ordered = np.sort(scores)
    total = len(ordered)
    return np.array(
        [
            sum(
                value * math.comb(rank, count - 1) / math.comb(total, count)
                for rank, value in enumerate(ordered)
            )
            for count in range(1, total + 1)
        ]
    )


def _choice(
    loss: str, own: Sequence[dict[str, Any]], drawn: Float[np.ndarray, " settings"]
) -> dict[str, Any]:
    """What would be chosen for a loss; of equal settings the first."""
    best = max(own, key=lambda setting: setting["score"])
    choice = {
        "loss": loss,
        "settings": len(own),
        "seeds": min(setting["seeds"] for setting in own),
        "default": next((setting["score"] for setting in own if setting["is_default"]), math.nan),
        "median": float(np.median(drawn)) if len(drawn) else math.nan,
        "tuned": best["score"],
        "chosen": best["setting"],
    }
    if LABELS in best:
        by_labels = max(own, key=lambda setting: setting[LABELS])
        choice |= {"tuned_by_labels": by_labels["score"], "chosen_by_labels": by_labels["setting"]}
    return choice


def tuned_values(tuning: Tuning) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each loss with the keys and values that its search chose."""
    settings = {setting["setting"]: setting for setting in tuning.settings.to_dict("records")}
    for choice in tuning.chosen.to_dict("records"):
        chosen = settings[choice["chosen"]]
        keys = [key for key in chosen if str(key).startswith(("loss.", "optim."))]
        yield str(choice["loss"]), {str(key): chosen[key] for key in keys if not pd.isna(chosen[key])}
