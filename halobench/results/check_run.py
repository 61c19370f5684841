"""What must hold of one recorded run: its files, its identity, its scores, the prompts it answered."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from halobench.errors import ResultsError
from halobench.results.private import private_texts
from halobench.results.record import RunRecord, ScoreFacts, ScoreRecord, parse_score_facts
from halobench.results.store import RECORD, TIMING, Store, unreadable
from halobench.storage import digest, file_digest, parse_json

MAX_BYTES = 10 * 2**20
_COLUMNS = ["prompt_id", "decode", "rep", "metric", "value"]
_NO_DECODE = "-"
_SHARE = r"(?:^|_)(?:winrate|accuracy|tie|ended|collapsed)(?:$|_)"
_SCORE_FILE = re.compile(r"scores/\w[\w.-]*-[0-9a-f]{8}\.(json|parquet)")
_CLOSE = 1e-6
_RESTORE = "restore the file, or run its recipe again"


@dataclass
class Asked:
    """What runs were asked, to be compared over runs.

    Attributes:
        prompt_sets: prompts by the first 12 digits of their digest.
        questions: of what has no prompt set: (configuration, decode, metric) to a run and its prompts.
        num_whole: scores of whole runs, which no per-prompt rows give.
    """

    prompt_sets: Mapping[str, frozenset[str]]
    questions: dict[tuple[str, str, str], tuple[str, frozenset[str]]] = field(default_factory=dict)
    num_whole: int = 0


def run_problems(store: Store, run_id: str, asked: Asked) -> Iterator[str]:
    """Yield what is wrong with a run, one line each."""
    folder = store.run_path(run_id)
    files = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    size = sum(path.lstat().st_size for path in files)
    if size > MAX_BYTES:
        yield (
            f"{folder}: holds {size / 2**20:.1f} MiB, more than {MAX_BYTES // 2**20}; leave out what is no "
            "result"
        )
    for path in files:
        if path.is_symlink():
            yield f"{path}: is a link; put the file itself there"
    try:
        record = store.record(run_id)
    except ResultsError as error:
        yield from error.problems
        return
    yield from _identity_problems(folder, record)
    yield from _private_problems(folder / RECORD)
    yield from _file_problems(folder, record, [path.relative_to(folder).as_posix() for path in files])
    found: list[ScoreRecord] = []
    for file in sorted((folder / "scores").glob("[!.]*.json")):
        try:
            facts = parse_score_facts(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield from unreadable(file, error).problems
            continue
        if f"scores/{file.name}" in record.files:
            found += facts.scores
        yield from _private_problems(file)
        yield from _score_problems(run_id, file, facts, asked)
    if sorted(map(repr, found)) != sorted(map(repr, record.scores)):
        yield (
            f"{folder / RECORD}: scores: are not those of its score files ({len(record.scores)} against "
            f"{len(found)}); {_RESTORE}"
        )


def _identity_problems(folder: Path, record: RunRecord) -> Iterator[str]:
    file = folder / RECORD
    if record.run_id != folder.name:
        yield f"{file}: run_id = {record.run_id!r}: is not the name of its folder; rename the folder"
    if not record.run_id.endswith(f"-s{record.seed}-{digest(record.identity)[:12]}"):
        yield f"{file}: run_id = {record.run_id!r}: does not end in the digest of its identity; {_RESTORE}"
    if (record.kind == "tuning") != (record.identity.get("split") == "dev"):
        yield f"{file}: kind = {record.kind!r}: is for tuning just where the prompts are dev's; {_RESTORE}"


def _private_problems(file: Path) -> Iterator[str]:
    for key, kind in private_texts(parse_json(file.read_text(encoding="utf-8"))):
        yield f"{file}: {key}: holds {kind}; run it again with a recipe that has none, or retract the run"


def _file_problems(folder: Path, record: RunRecord, present: list[str]) -> Iterator[str]:
    for name, sha256 in record.files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            yield f"{folder / RECORD}: files: {name!r} is outside of the run; {_RESTORE}"
        elif name not in present:
            yield f"{folder / name}: is missing; {_RESTORE}"
        elif file_digest(folder / name) != sha256:
            yield f"{folder / name}: is not what the record has the digest of; {_RESTORE}"
    for name in present:
        if name not in record.files and name not in (RECORD, TIMING) and "/.tmp-" not in f"/{name}":
            partner = str(PurePosixPath(name).with_suffix(".json"))
            if not _SCORE_FILE.fullmatch(name):
                yield f"{folder / name}: is no file of the run; remove it"
            elif partner not in present:  # the JSON file is written last
                yield f"{folder / name}: has no {PurePosixPath(partner).name} beside it; remove it"


def _score_problems(run_id: str, file: Path, facts: ScoreFacts, asked: Asked) -> Iterator[str]:
    if file.stem != f"{facts.scorer}-{digest(facts.config)[:8]}":
        yield f"{file}: is of another scorer or configuration than its name says; {_RESTORE}"
    table = file.with_suffix(".parquet")
    try:
        if file_digest(table) != facts.sha256:
            yield f"{table}: is not what {file.name} has the digest of; {_RESTORE}"
        rows = pd.read_parquet(table)
    except (OSError, ValueError) as error:
        yield from unreadable(table, error).problems
        return
    if not _is_table(rows):
        yield f"{table}: must have the columns {', '.join(_COLUMNS)}, rep and value as numbers; {_RESTORE}"
        return
    if len(rows) != facts.rows:
        yield f"{table}: has {len(rows)} rows instead of {facts.rows}; {_RESTORE}"
    yield from _value_problems(table, rows)
    yield from _recomputed_problems(file, rows, facts, asked)
    yield from _coverage_problems(run_id, table, rows, facts, asked)


def _is_table(rows: pd.DataFrame) -> bool:
    if list(rows.columns) != _COLUMNS:
        return False
    texts = all(pd.api.types.is_string_dtype(rows[name]) for name in ("prompt_id", "decode", "metric"))
    rep, value = rows["rep"].dtype, rows["value"].dtype
    return texts and pd.api.types.is_integer_dtype(rep) and pd.api.types.is_float_dtype(value)


def _value_problems(table: Path, rows: pd.DataFrame) -> Iterator[str]:
    bad = ~rows["value"].map(math.isfinite)
    if bad.any():
        yield f"{table}: {int(bad.sum())} values are not finite, first in row {int(bad.argmax())}; {_RESTORE}"
    shares = rows[rows["metric"].str.contains(_SHARE) & ~bad]
    outside = shares[(shares["value"] < 0) | (shares["value"] > 1)]
    for metric in dict.fromkeys(outside["metric"]):
        yield f"{table}: {metric}: has values outside of 0 to 1; {_RESTORE}"
    twice = int(rows.duplicated(["prompt_id", "decode", "rep", "metric"]).sum())
    if twice:
        yield f"{table}: has {twice} values twice; {_RESTORE}"


def _recomputed_problems(file: Path, rows: pd.DataFrame, facts: ScoreFacts, asked: Asked) -> Iterator[str]:
    table = _recomputed(rows)
    for score in facts.scores:
        name = f"{score.task} {score.metric}"
        if score.scorer != facts.scorer:
            yield f"{file}: {name}: is of the scorer {score.scorer!r}; {_RESTORE}"
        place = _place(score, table)
        if place is None and score.stderr is None:
            asked.num_whole += 1
            continue
        if place is None:
            yield f"{file}: {name}: has an error, but no per-prompt rows; {_RESTORE}"
            continue
        mean, sem, count = table[place]
        if not math.isclose(score.value, mean, rel_tol=_CLOSE, abs_tol=_CLOSE):
            yield f"{file}: {name} = {score.value:.6g}: its rows give {mean:.6g}; {_RESTORE}"
        if score.stderr is not None and not math.isclose(score.stderr, sem, rel_tol=_CLOSE, abs_tol=_CLOSE):
            yield f"{file}: {name}: stderr = {score.stderr:.6g}: its rows give {sem:.6g}; {_RESTORE}"
        if score.num_samples != count:
            yield f"{file}: {name}: num_samples = {score.num_samples}: it has {count} prompts; {_RESTORE}"


def _recomputed(rows: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Mean over prompts, its error and their number, by decode and metric."""
    means = rows.groupby(["decode", "metric", "prompt_id"], as_index=False)["value"].mean()
    table = means.groupby(["decode", "metric"], as_index=False)["value"].agg(["mean", "sem", "count"])
    return {
        (row["decode"], row["metric"]): (float(row["mean"]), float(row["sem"]), int(row["count"]))
        for row in table.to_dict("records")
    }


def _place(score: ScoreRecord, table: Mapping[tuple[str, str], object]) -> tuple[str, str] | None:
    """Where the rows of a score are: under its decode, its skill, or the held-out pairs."""
    places = [(score.task, score.metric), (_NO_DECODE, f"{score.task}_{score.metric}")]
    places += [(_NO_DECODE, score.metric)] if score.task == "pairs" else []
    return next((place for place in places if place in table), None)


def _coverage_problems(
    run_id: str, table: Path, rows: pd.DataFrame, facts: ScoreFacts, asked: Asked
) -> Iterator[str]:
    name = str(facts.config.get("prompts"))
    wanted = asked.prompt_sets.get(name[:12])
    if wanted is None:
        yield f"{table}: answers the prompts {name[:12]!r}, which are not in promptsets; add their file"
        return
    distinct = rows.drop_duplicates(["decode", "metric", "prompt_id"])
    for (decode, metric), prompt_ids in distinct.groupby(["decode", "metric"], observed=True)["prompt_id"]:
        found = frozenset(prompt_ids)
        if decode != _NO_DECODE and found != wanted:
            yield (
                f"{table}: {decode} {metric}: {len(wanted - found)} of {len(wanted)} prompts are missing, "
                f"{len(found - wanted)} are of no prompt set; {_RESTORE}"
            )
        elif decode == _NO_DECODE:  # probes, or the pairs that have an answer: the same for every run
            first, questions = asked.questions.setdefault(
                (table.stem, str(decode), str(metric)), (run_id, found)
            )
            if found != questions:
                yield (
                    f"{table}: {metric}: has other prompts than {first} ({len(found)} against "
                    f"{len(questions)}); {_RESTORE}"
                )
