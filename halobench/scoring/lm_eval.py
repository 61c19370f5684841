"""Retained ability: the world's probes as lm-eval tasks, asked of the policy in memory."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
import yaml
from lm_eval.api.model import TemplateLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halobench.data.rows import Row
from halobench.data.tokenize import Tokens, tokenize
from halobench.feedback import Message, Prompt
from halobench.generation import Decoding, Request, generate
from halobench.materials import Materials
from halobench.models.logprobs import batches, predict
from halobench.registry import SCORERS
from halobench.scoring.base import NO_DECODE, Contender, Scorer, ScoringResult, make_rows, summarise
from halobench.storage import digest, home

DIRECTIONS: dict[str, bool | None] = {"accuracy": True, "gold_logp": True}


class InMemoryLM(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """An lm-eval model around a policy that is already loaded; needs no accelerate.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer; a begin marker, where there is one, is put before every text.
        max_length: longest text; older tokens are dropped.
        report: told how many texts are scored, of how many.
    """

    backend = "causal"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        super().__init__()
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._report = report
        self._known: dict[str, Tokens] = {}

    @property
    def eot_token_id(self) -> int:
        """Id of the end marker."""
        return int(self._tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Id of the token that stands before a text without context."""
        begin = self._tokenizer.bos_token_id
        return int(begin) if begin is not None else self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        """Name under which lm-eval would cache requests."""
        return str(self._tokenizer.name_or_path or "in-memory")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Encode without special tokens; the begin marker is added when a text is scored."""
        if string not in self._known:
            self._known |= tokenize(self._tokenizer, [string])
        return list(self._known[string])

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return what `_loglikelihood_tokens` does of (context, continuation), all tokenised at once."""
        pairs = [request.args for request in requests]
        texts = [
            part for context, continuation in pairs for part in (context.rstrip(), context + continuation)
        ]
        self._known |= tokenize(self._tokenizer, texts)
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm)
        return answers

    def _prefixed(self, context: Sequence[int]) -> tuple[int, ...]:
        begin = self._tokenizer.bos_token_id
        if begin is None or list(context[:1]) == [begin]:
            return tuple(context)
        return (int(begin), *context)

    @torch.no_grad()
    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood in nats of each continuation, and whether it is the greedy one."""
        rows = []
        for _, context, continuation in requests:
            kept = (*self._prefixed(context), *continuation)[-self._max_length :]
            cut = len(kept) - len(continuation)
            rows.append(Row(kept[:cut], kept[cut:], True))
        answers = [(0.0, False)] * len(rows)
        done = 0
        for part, batch in batches(self._model, rows):
            predictions = predict(self._model, batch)
            missed = predictions.logits.argmax(-1) != predictions.targets
            greedy = predictions.sums(missed.float()) == 0
            totals = predictions.sums(predictions.logps)
            for index, total, is_greedy in zip(part, totals.tolist(), greedy.tolist(), strict=True):
                answers[index] = (total, is_greedy)
            done += len(part)
            self._report(done, len(rows))
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood in nats of each whole text, in windows of the longest length."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        totals = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._max_length - 1,
                context_len=1,
            )
            parts = [(None, *make_disjoint_window(window)) for window in windows]
            totals.append(sum(total for total, _ in self._loglikelihood_tokens(parts)))
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Continue each context greedily until one of its stop strings."""
        texts = []
        for request in requests:
            context, options = request.args
            room = min(int(options.get("max_gen_toks", 64)), self._max_length // 2)
            prompt = self._prefixed(self.tok_encode(context))[-(self._max_length - room) :]
            [sample] = generate(
                self._model,
                [Request(context, 0, prompt)],
                Decoding(
                    temperature=0.0,
                    seed=0,
                    max_new_tokens=room,
                    eos=self.eot_token_id,
                    pad=int(self._tokenizer.pad_token_id),
                ),
            )
            text = self._tokenizer.decode(sample.tokens, skip_special_tokens=True)
            until = options.get("until", [])
            for stop in [until] if isinstance(until, str) else until:
                text = text.split(stop)[0] if stop else text
            texts.append(text)
        return texts


@SCORERS.register("lm_eval", source="Gao et al., EleutherAI lm-evaluation-harness")
class LmEvalScorer(Scorer):
    """Accuracy of the world's multiple-choice probes, and the log-probability in nats of the right answer.

    Each skill is an lm-eval task; what alignment costs shows in the log-probability where the accuracy is at
    its top.
    """

    needs_world: ClassVar[bool] = True

    def prompts(self, materials: Materials) -> Iterable[Prompt]:
        """The questions of every skill."""
        world, split = materials.world, materials.recipe.split
        return (
            (Message("user", probe.context),)
            for skill in world.skills
            for probe in world.probes(skill, split)
        )

    def score(self, contender: Contender) -> ScoringResult:
        """Run lm-eval on every skill."""
        from lm_eval.evaluator import evaluate
        from lm_eval.tasks import TaskManager

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        materials = contender.materials
        tasks = probe_tasks(materials)
        model = InMemoryLM(
            contender.model,
            contender.tokenizer,
            max_length=contender.model.config.max_position_embeddings,
            report=lambda done, total: contender.report("lm-eval", done, total),
        )
        manager = TaskManager(include_defaults=False)  # indexing the stock tasks takes ten seconds
        # not simple_evaluate: it asks pip what is installed, and seeds every generator of the process
        results = evaluate(
            model,
            manager.load([str(path) for path in tasks.values()]),
            bootstrap_iters=0,
            log_samples=True,
            verbosity="ERROR",
        )
        if results is None:
            raise ValueError("lm-eval returns results on rank 0 only")
        records = []
        scores = []
        for skill in tasks:
            samples = sorted(results["samples"][f"halobench_{skill}"], key=lambda sample: sample["doc_id"])
            rows = make_rows(
                [
                    (f"{skill}-{sample['doc_id']:03d}", NO_DECODE, 0, metric, value)
                    for sample in samples
                    for metric, value in (
                        ("accuracy", float(sample["acc"])),
                        ("gold_logp", float(sample["filtered_resps"][0][0])),
                    )
                ]
            )
            scores += summarise(rows, DIRECTIONS, task=skill)
            records.append(rows.assign(metric=f"{skill}_" + rows["metric"]))
        return ScoringResult(pd.concat(records, ignore_index=True), scores)


def probe_tasks(materials: Materials) -> dict[str, Path]:
    """Write the world's probes as lm-eval task files, once; skill to the YAML file."""
    world = materials.world
    split = materials.recipe.split
    key = digest([world.content_id, split])[:16]

    def build(folder: Path) -> None:
        final = materials.artifacts.path("probes", key).resolve()
        for skill in world.skills:
            probes = world.probes(skill, split)
            lines = [json.dumps({"context": probe.context, "choices": probe.choices}) for probe in probes]
            (folder / f"{skill}.jsonl").write_text("\n".join(lines) + "\n")
            task = {
                "task": f"halobench_{skill}",
                "dataset_path": "json",
                "dataset_kwargs": {
                    "data_files": {"test": str(final / f"{skill}.jsonl")},
                    "cache_dir": str((home() / "datasets").resolve()),
                },
                "output_type": "multiple_choice",
                "test_split": "test",
                "doc_to_text": "context",
                "doc_to_target": 0,
                "doc_to_choice": "choices",
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
                "num_fewshot": 0,
                "metadata": {"version": 1},
            }
            (folder / f"{skill}.yaml").write_text(yaml.safe_dump(task, sort_keys=True))

    folder = materials.artifacts.get("probes", key, build)
    return {skill: folder / f"{skill}.yaml" for skill in world.skills}
