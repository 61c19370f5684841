"""The record of a run: what was run, on which data, at which cost, with which scores."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from halobench.results.migrate import migrated
from halobench.storage import canonical_json, parse_json

_PACKAGES = (
    "alpaca-eval",
    "datasets",
    "halobench",
    "lightning",
    "lm-eval",
    "numpy",
    "pandas",
    "torch",
    "transformers",
)
_CODE = ("halobench", "pyproject.toml", "constraints.txt")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataFacts(_Part):
    """Which feedback a run was trained on.

    Attributes:
        sha256: digest of the base selection; equal for all losses of a seed.
        num_prompts: distinct prompts of the base selection.
        num_pairs: its preferences.
        num_desirable: its distinct responses with a thumb up.
        num_undesirable: its distinct responses with a thumb down.
        drops: rows of the source that were left out, by reason.
        view: name of the loss's view.
        view_desirable: desirable completions of the view.
        view_undesirable: undesirable completions of the view.
        truncated: texts of the base selection that lost tokens, by kind.
        num_responses: its distinct responses; None, as what follows, in records from before it was counted.
        num_contradictions: those of them with a thumb up and one down.
        mean_words: average length of its desirable and its undesirable responses.
        leaked: prompts and answers of evaluations that it holds in the same words or nearly so, by set.
    """

    sha256: str
    num_prompts: int
    num_pairs: int
    num_desirable: int
    num_undesirable: int
    drops: dict[str, int]
    view: str
    view_desirable: int
    view_undesirable: int
    truncated: dict[str, int]
    num_responses: int | None = None
    num_contradictions: int | None = None
    mean_words: dict[str, float] | None = None
    leaked: dict[str, int] | None = None


class RoundFacts(_Part):
    """Which feedback a round of online alignment was trained on: answers of the policy, judged.

    Attributes:
        sha256: digest of the judged pairs.
        num_prompts: prompts that were asked, one for each pair of the base selection whose turn it was.
        num_pairs: judged pairs; each is two labels, as in the base selection.
        drops: prompts that gave no pair, by reason.
        num_judged: answers that the judge scored.
        mean_score: of these, in the judge's own units.
        num_ended: of all sampled answers those that reached the end marker.
        tokens: through the model in sampling, prompts once.
    """

    sha256: str
    num_prompts: int
    num_pairs: int
    drops: dict[str, int]
    num_judged: int
    mean_score: float
    num_ended: int
    tokens: int


class BudgetFacts(_Part):
    """What a run was allowed, and what it spent in its alignment stage.

    Attributes:
        match: what is equal over losses.
        epochs: passes over the base selection that the setting allows.
        multiple: factor on them for this row.
        steps: optimizer steps.
        completions: completions consumed.
        tokens: tokens through the model, KTO's mismatched ones and those of online sampling included.
        flops: 6 per parameter and trained token, 2 per parameter and token without gradient.
        parameters: of the model, a critic included.
    """

    match: str
    epochs: float
    multiple: float
    steps: int
    completions: int
    tokens: int
    flops: int
    parameters: int


class Provenance(_Part):
    """Where the numbers come from.

    Attributes:
        versions: of Python and the packages that matter.
        commit: of the checkout that ran, or None.
        dirty: whether the code differed from it; None without a checkout.
        system: operating system and processor.
        accelerator: name of the device that trained.
    """

    versions: dict[str, str]
    commit: str | None
    dirty: bool | None
    system: str
    accelerator: str


class ScoreRecord(_Part):
    """One score in a record; see `halobench.scoring.base.Score`."""

    scorer: str
    task: str
    metric: str
    value: float
    stderr: float | None
    num_samples: int
    higher_is_better: bool | None


class ScoreFacts(_Part):
    """What one scorer found of a run, as the JSON file beside its per-prompt rows holds it.

    Attributes:
        scorer: its registered name.
        config: what the numbers depend on beside the policy; its digest is in the name of the file.
        scores: aggregates.
        rows: lines of the parquet file of that name.
        sha256: digest of it.
    """

    scorer: str
    config: dict[str, Any]
    scores: tuple[ScoreRecord, ...]
    rows: int
    sha256: str


class RunRecord(_Part):
    """A run, as run.json holds it.

    Attributes:
        schema_version: of this layout; see `halobench.results.migrate`.
        run_id: name of the run, ending in a digest of `identity`.
        setting_id: what makes rows comparable.
        method_id: what makes a row.
        kind: "run", or "tuning" for runs on the dev prompts, which never reach a board.
        status: "completed", or "diverged" where the loss stopped being a number.
        reason: why it diverged.
        evaluate: which model was scored: "aligned", "reference" or "base".
        seed: of the run.
        identity: everything that the result depends on.
        recipe: the resolved recipe, without paths of the machine.
        data: facts about the feedback; None for the base model.
        rounds: of online alignment; none where the alignment was trained on the base selection itself.
        budget: facts about the alignment stage; None where there was none.
        provenance: where the numbers come from.
        scores: aggregates of the scorers that ran with it.
        files: digest of every other file of the run but the timings.
    """

    schema_version: Literal[1] = 1
    run_id: str
    setting_id: str
    method_id: str
    kind: Literal["run", "tuning"]
    status: Literal["completed", "diverged"]
    reason: str | None = None
    evaluate: Literal["aligned", "reference", "base"]
    seed: int
    identity: dict[str, Any]
    recipe: dict[str, Any]
    data: DataFacts | None
    rounds: tuple[RoundFacts, ...] = ()
    budget: BudgetFacts | None
    provenance: Provenance
    scores: tuple[ScoreRecord, ...]
    files: dict[str, str]


def parse_record(text: str) -> RunRecord:
    """Read a record of this layout or an earlier one.

    Raises:
        ValueError: it is no record, or of a later layout.
    """
    return RunRecord.model_validate(migrated(parse_json(text)))


def parse_score_facts(text: str) -> ScoreFacts:
    """Read what one scorer found of a run.

    Raises:
        ValueError: it is something else.
    """
    return ScoreFacts.model_validate(parse_json(text))


def record_schema() -> str:
    """The JSON Schema of run.json, the same text every time."""
    schema = RunRecord.model_json_schema()
    return canonical_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def provenance(accelerator: str) -> Provenance:
    """Collect where this process's numbers come from."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    commit, dirty = _git_state()
    return Provenance(
        versions={"python": platform.python_version(), **versions},
        commit=commit,
        dirty=dirty,
        system=f"{platform.system()} {platform.machine()}",
        accelerator=accelerator,
    )


@cache
def _git_state() -> tuple[str | None, bool | None]:
    top = Path(__file__).parent.parent.parent
    if not (top / ".git").exists():
        return None, None
    try:
        commit = _git(top, "rev-parse", "HEAD")
        return commit, bool(_git(top, "status", "--porcelain", "--", *_CODE))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return run.stdout.strip()
