"""What a scorer is given and what it returns: the contender, per-prompt rows, scores with their errors."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halobench.data.tokenize import Encoder, Tokens
from halobench.feedback import EvaluationPrompt, Prompt, PromptSet
from halobench.generation import Decoding, Request, Sample, generate
from halobench.materials import Materials
from halobench.models.load import best_device, load_model, weights_digest
from halobench.recipe import Recipe
from halobench.storage import canonical_json, digest

if TYPE_CHECKING:
    from halobench.vllm_engine import VLLMEngine

Report = Callable[[str, int, int], None]
ROW_COLUMNS = ["prompt_id", "decode", "rep", "metric", "value"]
NO_DECODE = "-"


class Score(NamedTuple):
    """One number about one policy.

    Attributes:
        task: what was evaluated: a decode of the world's prompts, a skill, the held-out pairs.
        metric: what number.
        value: the number; fractions in [0, 1], nats, tokens.
        stderr: over prompts; None where there is none.
        num_samples: prompts behind it.
        higher_is_better: None where neither is.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    num_samples: int
    higher_is_better: bool | None


@dataclass(frozen=True)
class ScoringResult:
    """What a scorer returns.

    Attributes:
        rows: per-prompt values, columns prompt_id, decode, rep, metric, value.
        scores: aggregates.
        samples: texts to show, columns prompt_id, decode, rep, text; or None.
    """

    rows: pd.DataFrame
    scores: list[Score]
    samples: pd.DataFrame | None = None


class Text(NamedTuple):
    """One sampled answer.

    Attributes:
        prompt_id: its prompt.
        rep: number of the sample.
        text: the answer, with the end marker where it was emitted.
        tokens: token ids.
        ended: whether the end marker was emitted.
        entropy: nats per token of the distributions the tokens were drawn from.
    """

    prompt_id: str
    rep: int
    text: str
    tokens: Tokens
    ended: bool
    entropy: float


@dataclass
class Written:
    """Tokens that were sampled, and the seconds it took."""

    tokens: int = 0
    seconds: float = 0.0


@dataclass
class Contender:
    """A policy with what it is compared to.

    Attributes:
        materials: of the run.
        folder: the policy.
        reference: the model that it is measured against; None where the policy is itself the base or the
            reference.
        report: told phase, done, total.
        written: what it took to sample texts.
        start: the model it started from; by default the reference.
    """

    materials: Materials
    folder: Path
    reference: Path | None
    report: Report = lambda phase, done, total: None
    written: Written = field(default_factory=Written)
    start: Path | None = None
    _texts: dict[str, list[Text]] = field(default_factory=dict)
    _engines: dict[Path, VLLMEngine] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The run."""
        return self.materials.recipe

    @cached_property
    def model(self) -> PreTrainedModel:
        """The policy."""
        return self._load(self.folder)

    @cached_property
    def reference_model(self) -> PreTrainedModel | None:
        """The reference."""
        if self.reference is None:
            return None
        return self._load(self.reference)

    @cached_property
    def _start_model(self) -> PreTrainedModel | None:
        return self.reference_model if self.start in (None, self.reference) else self._load(self.start)

    def _load(self, folder: Path) -> PreTrainedModel:
        return load_model(folder, self.recipe.precision, self.recipe.model.trust).to(best_device())

    @cached_property
    def encoder(self) -> Encoder:
        """Encodes for the policy, which may know more tokens than the reference."""
        return self.materials.encoder(self.tokenizer)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            self.folder, trust_remote_code=self.recipe.model.trust_remote_code
        )

    @property
    def control(self) -> str | None:
        """The control token that asks the policy for a good answer."""
        if self.recipe.evaluate != "aligned" or not self.materials.loss.control_tokens:
            return None
        return self.materials.loss.control_tokens[0]

    @property
    def banned(self) -> list[int]:
        """Tokens that no answer may hold: every special one but the end marker."""
        return [i for i in self.tokenizer.all_special_ids if i != self.encoder.end]

    def decoding(self, temperature: float, seed: int) -> Decoding:
        """How texts of the policy and the reference are drawn."""
        return Decoding(
            temperature=temperature,
            seed=seed,
            max_new_tokens=self.recipe.scoring.max_new_tokens,
            eos=self.encoder.end,
            pad=self.tokenizer.pad_token_id,
            banned=self.banned,
        )

    def prompt_tokens(self, prompt: Prompt) -> Tokens:
        """Encode a prompt as the policy is asked."""
        return self.encoder.prompt(prompt, self.control)

    def texts(self, prompts: PromptSet, temperature: float) -> list[Text]:
        """Sample the policy's answers, prompt by prompt; at temperature 0 one each."""
        key = f"{prompts.sha256}-{temperature}"
        if key not in self._texts:
            self._texts[key] = self._sample(self.folder, prompts, temperature, self.control)
        return self._texts[key]

    def reference_texts(self, prompts: PromptSet, temperature: float) -> list[Text]:
        """Sample the answers of the model it started from with the same noise, kept for its other runs."""
        start = self.start or self.reference
        if start is None:
            raise ValueError("this contender has no reference")
        scoring = self.recipe.scoring
        key = {
            "weights": weights_digest(start),
            "engine": scoring.engine,
            "prompts": prompts.sha256,
            "temperature": temperature,
            "samples": scoring.samples_per_prompt,
            "max_new_tokens": scoring.max_new_tokens,
            "max_prompt_length": self.recipe.data.max_prompt_length,
            "precision": self.recipe.precision,
            "seed": self.recipe.seed,
        }

        def build(target: Path) -> None:
            texts = self._sample(start, prompts, temperature, None)
            (target / "texts.json").write_text(canonical_json([list(text) for text in texts]))

        file = self.materials.artifacts.get("generations", digest(key)[:16], build) / "texts.json"
        return [
            Text(row[0], row[1], row[2], tuple(row[3]), row[4], row[5])
            for row in json.loads(file.read_text())
        ]

    def _sample(
        self, folder: Path, prompts: PromptSet, temperature: float, control: str | None
    ) -> list[Text]:
        scoring = self.recipe.scoring
        num_samples = scoring.samples_per_prompt if temperature > 0 else 1
        requests = [
            Request(row.prompt_id, rep, self.encoder.prompt(row.prompt, control))
            for row in prompts.rows
            for rep in range(num_samples)
        ]
        began = time.perf_counter()
        samples = self._engine(folder)(
            requests,
            self.decoding(temperature, self.recipe.seed),
            lambda done, total: self.report("generate", done, total),
        )
        self.written.seconds += time.perf_counter() - began
        self.written.tokens += sum(len(sample.tokens) for sample in samples)
        return [
            Text(
                request.prompt_id,
                request.sample,
                self.tokenizer.decode(sample.tokens, clean_up_tokenization_spaces=False),
                tuple(sample.tokens),
                sample.ended,
                sample.entropy / len(sample.tokens),
            )
            for request, sample in zip(requests, samples, strict=True)
        ]

    def _engine(self, folder: Path) -> Callable[..., list[Sample]]:
        """What samples texts of the policy or the model it started from."""
        model = self.model if folder == self.folder else self._start_model
        if self.recipe.scoring.engine == "halobench":
            return partial(generate, model)
        from halobench.vllm_engine import VLLMEngine

        if folder not in self._engines:
            self._engines[folder] = VLLMEngine(folder, model)
        return self._engines[folder].generate


class Scorer(ABC):
    """Measures a contender; registered under a name, asked for in `scoring.scorers`.

    Attributes:
        needs_world: whether it asks the world for the true utility or for probes.
        version: changes with what the numbers mean.
    """

    needs_world: ClassVar[bool] = False
    version: ClassVar[int] = 1

    @abstractmethod
    def score(self, contender: Contender) -> ScoringResult:
        """Score the contender on the prompts of its recipe."""

    def prompts(self, materials: Materials) -> Iterable[Prompt]:
        """What is asked of the contender, to be looked for in what it was trained on."""
        return (row.prompt for row in materials.prompts.rows)

    def config(self, materials: Materials) -> dict[str, Any]:
        """What the numbers depend on beside the policy; its digest names the score files."""
        return {
            "version": self.version,
            "prompts": materials.prompts.sha256,
            "source": materials.source.content_id,
        }


def sampling_config(materials: Materials) -> dict[str, Any]:
    """How answers are sampled, for the configuration of scorers that sample."""
    scoring = materials.recipe.scoring.model_dump(mode="json", exclude={"scorers", "num_prompts"})
    if scoring["engine"] == "halobench":
        del scoring["engine"]  # as in scores from before there was another
    return {"dev_prompts": materials.dev_prompts.sha256, **scoring}


def make_rows(records: Sequence[tuple[str, str, int, str, float]]) -> pd.DataFrame:
    """Make the per-prompt table from (prompt_id, decode, rep, metric, value) records."""
    frame = pd.DataFrame(list(records), columns=ROW_COLUMNS).astype({"rep": "int16", "value": "float32"})
    return frame.sort_values(["decode", "metric", "rep", "prompt_id"], ignore_index=True)  # packs best


def summarise(rows: pd.DataFrame, directions: dict[str, bool | None], task: str | None = None) -> list[Score]:
    """Average rows by decode and metric; the error is that of the prompts' means.

    Args:
        rows: per-prompt table.
        directions: metric to whether higher is better.
        task: name of the task; by default the decode.
    """
    prompt_means = rows.groupby(["decode", "metric", "prompt_id"], as_index=False)["value"].mean()
    table = prompt_means.groupby(["decode", "metric"], as_index=False)["value"].agg(["mean", "sem", "count"])
    return [
        Score(
            task or row["decode"],
            row["metric"],
            float(row["mean"]),
            float(row["sem"]) if row["count"] > 1 else None,
            int(row["count"]),
            directions[row["metric"]],
        )
        for row in table.to_dict("records")
    ]


def first_pair(row: EvaluationPrompt) -> tuple[str, str]:
    """The labelled pair of a prompt: (chosen, rejected)."""
    return row.chosen[0], row.rejected[0]
