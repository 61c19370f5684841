"""Readers of other programs' results: lm-eval, alpaca-eval, TRL."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from pydantic import ValidationError

from halobench.errors import ResultsError
from halobench.results.imports import NULL, Import, ImportedScore
from halobench.results.store import unreadable
from halobench.storage import file_digest, parse_json

Read = tuple[str, dict[str, str], list[ImportedScore], Counter[str]]  # what, facts, scores, drops
_ALPACA_COLUMNS = ("win_rate", "standard_error", "n_total")
_ALPACA_RATES = (
    ("win_rate", "winrate", "standard_error"),
    ("length_controlled_winrate", "lc_winrate", None),
    ("discrete_win_rate", "discrete_winrate", None),
)


def read_foreign(source: str, path: Path, name: str) -> Import:
    """Read the results of another program.

    Args:
        source: "lm-eval" (its results JSON), "alpaca-eval" (a leaderboard CSV or an annotations.json), or
            "trl" (a trainer_state.json).
        path: of the file.
        name: under which it will be kept.

    Raises:
        ResultsError: it is not such a file, or holds no number.
    """
    try:
        what, facts, scores, drops = _READERS[source](path)
        if not scores:
            raise ValueError("holds no number")
        return Import(
            name=name,
            source=source,  # type: ignore[arg-type]  # a key of the readers
            what=what,
            file=path.name,
            sha256=file_digest(path),
            facts=facts,
            drops=dict(sorted(drops.items())),
            scores=tuple(sorted(scores, key=lambda score: (score.checkpoint, score.task, score.metric))),
        )
    except ValidationError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError, csv.Error) as error:
        raise ResultsError(f"{path}: {error}; give a file that {source} wrote") from None


def _json(path: Path) -> Any:
    """Unlike ours, files of others may hold NaN, which is counted and left out, and a byte order mark."""
    text = path.read_text(encoding="utf-8-sig")
    return parse_json(text, finite=False)


def _lm_eval(path: Path) -> Read:
    document = _mapping(_json(path), "the file")
    drops: Counter[str] = Counter()
    checkpoint = _checkpoint(document)
    scores = []
    counts, directions = (_mapping(document.get(key, {}), key) for key in ("n-samples", "higher_is_better"))
    tables = {
        **_mapping(document.get("results"), "results"),
        **_mapping(document.get("groups", {}), "groups"),
    }
    for task, table in tables.items():
        values = _mapping(table, f"results.{task}")
        for key, value in values.items():
            metric, separator, kept = key.partition(",")
            if not separator or metric.endswith("_stderr"):
                continue  # names and numbers of samples have no filter; errors are read with their metric
            if not _is_finite(value):
                drops["is no finite number"] += 1
                continue
            stderr = values.get(f"{metric}_stderr,{kept}")
            scores.append(
                ImportedScore(
                    checkpoint=checkpoint,
                    task=task,
                    metric=metric if kept == "none" else f"{metric},{kept}",
                    value=value,
                    stderr=stderr if _is_finite(stderr) else None,
                    num_samples=_mapping(counts.get(task, {}), f"n-samples.{task}").get("effective"),
                    higher_is_better=_mapping(directions.get(task, {}), "higher_is_better").get(metric),
                )
            )
    facts = {key: str(document[key]) for key in ("lm_eval_version", "git_hash") if document.get(key)}
    for key in ("versions", "n-shot"):
        for task, value in _mapping(document.get(key, {}), key).items():
            facts[f"{key}.{task}"] = str(value)
    return "lm-eval results of one checkpoint", facts, scores, drops


def _checkpoint(document: Mapping[str, Any]) -> str:
    """The model as lm-eval names it; of a path the last part, the rest tells about a machine."""
    config = _mapping(document.get("config", {}), "config")
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.partition("=")[::2] for part in arguments.split(","))
    named = arguments.get("pretrained") if isinstance(arguments, dict) else None
    return _last_part(str(document.get("model_name") or named or config.get("model") or "unknown"))


def _last_part(name: str) -> str:
    is_path = name.startswith(("/", "~", ".")) or PureWindowsPath(name).drive or "\\" in name
    return PureWindowsPath(name).name if is_path else name


def _alpaca_eval(path: Path) -> Read:
    return _leaderboard(path) if path.suffix == ".csv" else _annotations(path)


def _leaderboard(path: Path) -> Read:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in _ALPACA_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"has no column {', '.join(missing)}")
        rows = list(reader)
    drops: Counter[str] = Counter()
    scores = []
    for number, row in enumerate(rows, 2):
        model = row.get("") or row.get("name") or ""
        if not model:
            raise ValueError(f"line {number} names no model")
        total = _count(row, "n_total", number)
        counts = {key: row[key] for key in ("n_wins", "n_wins_base", "n_draws") if row.get(key)}
        for column, metric, error in _ALPACA_RATES:
            if not row.get(column):
                drops[f"has no {column}"] += column in (reader.fieldnames or ())
                continue
            scores.append(
                ImportedScore(
                    checkpoint=model,
                    task="alpaca_eval",
                    metric=metric,
                    value=_number(row, column, number) / 100,
                    # that of the length-controlled rate is the spread of fitted values, no standard error
                    stderr=_number(row, error, number) / 100 if error and row.get(error) else None,
                    num_samples=total,
                    higher_is_better=True,
                    counts={key: _count(row, key, number) for key in counts} if metric == "winrate" else {},
                )
            )
        if row.get("avg_length"):
            length = _number(row, "avg_length", number)
            scores.append(
                ImportedScore(checkpoint=model, task="alpaca_eval", metric="characters", value=length)
            )
    _require_distinct([score.checkpoint for score in scores if score.metric == "winrate"])
    return "published win rates, one checkpoint each, prompts unpaired", {}, scores, +drops


def _annotations(path: Path) -> Read:
    rows = _json(path)
    if not isinstance(rows, list):
        raise ValueError("must be a list of annotations")
    drops: Counter[str] = Counter()
    wins: dict[tuple[str, str, str], list[float]] = {}
    failed: Counter[tuple[str, str, str]] = Counter()
    seen = []
    for index, row in enumerate(rows):
        keys = ("instruction", "generator_1", "generator_2", "annotator")
        if not isinstance(row, dict) or not all(_is_text(row.get(key)) for key in keys):
            raise ValueError(f"annotation {index}: must have {', '.join(keys)} as texts")
        if "preference" not in row:
            raise ValueError(f"annotation {index}: must have a preference, which may be null")
        preference = row["preference"]
        seen.append(tuple(row[key] for key in keys))
        values = wins.setdefault((row["generator_2"], row["generator_1"], row["annotator"]), [])
        if preference is None or preference != preference:
            drops["has no preference"] += 1
            failed[row["generator_2"], row["generator_1"], row["annotator"]] += 1
            continue
        if not _is_finite(preference) or not (preference == 0 or 1 <= preference <= 2):
            raise ValueError(f"annotation {index}: preference = {preference!r}: must be 0 or 1 to 2")
        values.append(0.5 if preference == 0 else preference - 1)  # 0 is a draw, as 1.5 is
    _require_distinct(seen)
    scores = []
    for (model, baseline, judge), values in sorted(wins.items()):
        if not values:
            raise ValueError(f"{model}: has no preference at all")
        mean = math.fsum(values) / len(values)
        deviation = math.fsum((value - mean) ** 2 for value in values)
        num_wins, num_losses = sum(v > 0.5 for v in values), sum(v < 0.5 for v in values)
        counts = {"n_wins": num_wins, "n_wins_base": num_losses}
        counts["n_draws"] = len(values) - num_wins - num_losses
        if failed[model, baseline, judge]:
            counts[NULL] = failed[model, baseline, judge]
        scores.append(
            ImportedScore(
                checkpoint=model,
                task=f"alpaca_eval against {baseline} by {judge}",
                metric="winrate",
                value=mean,
                stderr=math.sqrt(deviation / (len(values) - 1) / len(values)) if len(values) > 1 else None,
                num_samples=len(values),
                higher_is_better=True,
                counts=counts,
            )
        )
    return "win rates from a judge's annotations", {}, scores, drops


def _trl(path: Path) -> Read:
    document = _mapping(_json(path), "the file")
    history = document.get("log_history")
    if not isinstance(history, list):
        raise ValueError("has no log_history; give a trainer_state.json")
    drops: Counter[str] = Counter()
    found: dict[tuple[int, str, str], ImportedScore] = {}
    for index, entry in enumerate(history):
        logged = _mapping(entry, f"log_history.{index}")
        step = logged.get("step")
        if type(step) is not int or step < 0:
            raise ValueError(f"log_history.{index}: step = {step!r}: must be a whole number")
        for key, value in logged.items():
            if key in ("step", "epoch"):
                continue
            if not _is_finite(value):
                drops["is no finite number"] += 1
                continue
            task = "eval" if key.startswith("eval_") else "train"
            metric = key.removeprefix("eval_")
            drops["was logged again at the same step"] += (step, task, metric) in found
            found[step, task, metric] = ImportedScore(
                checkpoint=f"step {step:07d}", task=task, metric=metric, value=value
            )
    facts = dict[str, str]()
    for key in ("max_steps", "num_train_epochs"):
        if key in document:
            facts[key] = str(document[key])
    return "logs of one training, by step", facts, list(found.values()), +drops


_READERS: Mapping[str, Callable[[Path], Read]] = {
    "lm-eval": _lm_eval,
    "alpaca-eval": _alpaca_eval,
    "trl": _trl,
}
SOURCES = tuple(_READERS)


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name}: must be a mapping")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(row: Mapping[str, str], key: str, line: int) -> float:
    try:
        number = float(row[key])
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"line {line}: {key} = {row[key]!r}: must be a number")
    return number


def _count(row: Mapping[str, str], key: str, line: int) -> int:
    number = _number(row, key, line)
    if number < 0 or number != int(number):
        raise ValueError(f"line {line}: {key} = {row[key]!r}: must be a whole number")
    return int(number)


def _require_distinct(names: Iterable[Any]) -> None:
    name, times = Counter(names).most_common(1)[0] if (names := list(names)) else ("", 0)
    if times > 1:
        raise ValueError(f"has {name!r} {times} times")
