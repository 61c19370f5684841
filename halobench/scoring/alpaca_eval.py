"""alpaca-eval's own judging loop, offline, with the oracle as its judge."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import types
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from packaging import version

from halobench.feedback import Prompt
from halobench.materials import Materials
from halobench.registry import SCORERS
from halobench.scoring.base import (
    Contender,
    Score,
    Scorer,
    ScoringResult,
    first_pair,
    make_rows,
    sampling_config,
)
from halobench.storage import home

_TIE = 1e-9
_PROMPT_TEMPLATE = "{instruction}\x1e{output_1}\x1e{output_2}"


def import_alpaca_eval() -> Any:
    """Import alpaca_eval 0.6.6, which still asks setuptools for the pkg_resources that it no longer has."""
    if "pkg_resources" not in sys.modules:
        try:
            importlib.import_module("pkg_resources")
        except ModuleNotFoundError:
            stand_in = types.ModuleType("pkg_resources")
            stand_in.parse_version = version.parse  # type: ignore[attr-defined]
            stand_in.DistributionNotFound = importlib.metadata.PackageNotFoundError  # type: ignore[attr-defined]
            stand_in.get_distribution = lambda name: types.SimpleNamespace(  # type: ignore[attr-defined]
                version=importlib.metadata.version(name)
            )
            sys.modules["pkg_resources"] = stand_in
    os.environ.setdefault("OPENAI_API_KEY", "unused: the judge is local")
    return importlib.import_module("alpaca_eval")


@SCORERS.register("alpaca_eval", source="Li et al. 2023, github.com/tatsu-lab/alpaca_eval, 0.6.6")
class AlpacaEvalScorer(Scorer):
    """alpaca-eval's win rate of the first T=1 answer against the first preferred one, judged by the oracle.

    It is the same number as the oracle's `winrate_first`: one engine checks the other. Outputs are shown in a
    fixed order, texts keep their end marker, and no verdict is kept from one scoring to the next.
    """

    needs_world: ClassVar[bool] = True

    def config(self, materials: Materials) -> dict[str, Any]:
        """What the numbers depend on beside the policy: the prompts, and how answers are sampled."""
        return super().config(materials) | sampling_config(materials)

    def score(self, contender: Contender) -> ScoringResult:
        """Judge with alpaca_eval.evaluate."""
        prompts = contender.materials.prompts
        end = contender.materials.world.end_marker
        answers = [text.text for text in contender.texts(prompts, 1.0) if text.rep == 0]
        outputs, baselines, known = [], [], {}
        for row, answer in zip(prompts.rows, answers, strict=True):
            instruction = row.prompt[-1].content
            known[instruction] = (row.prompt_id, row.prompt)
            outputs.append({"instruction": instruction, "output": answer, "generator": "policy"})
            baseline = f"{first_pair(row)[0]} {end}"
            baselines.append({"instruction": instruction, "output": baseline, "generator": "chosen"})
        contender.report("alpaca-eval", 0, 1)
        frame, annotations = self._evaluate(
            contender, outputs, baselines, {k: p for k, (_, p) in known.items()}
        )
        contender.report("alpaca-eval", 1, 1)
        records = [
            (known[row["instruction"]][0], "T=1", 0, "winrate", float(row["preference"]) - 1)
            for row in annotations
        ]
        result = frame.loc["policy"]
        scores = [
            Score(
                "T=1",
                "winrate",
                float(result["win_rate"]) / 100,
                float(result["standard_error"]) / 100,
                int(result["n_total"]),
                True,
            )
        ]
        return ScoringResult(make_rows(records), scores)

    def _evaluate(
        self,
        contender: Contender,
        outputs: list[dict[str, str]],
        baselines: list[dict[str, str]],
        turns: dict[str, Prompt],
    ) -> tuple[Any, list[dict[str, Any]]]:
        alpaca_eval = import_alpaca_eval()
        world = contender.materials.world

        def judge(prompts: list[str], **kwargs: Any) -> dict[str, list[Any]]:
            verdicts = []
            for text in prompts:
                instruction, *pair = text.split("\x1e")
                first, second = (sum(world.utility(turns[instruction], answer).values()) for answer in pair)
                verdicts.append(1.5 if abs(first - second) <= _TIE else 1.0 if first > second else 2.0)
            zeros = [0.0] * len(verdicts)
            return {
                "completions": verdicts,
                "completions_all": verdicts,
                "price_per_example": zeros,
                "time_per_example": zeros,
            }

        home().mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=home(), prefix="alpaca-eval-") as folder:
            template = Path(folder).resolve() / "prompt.txt"
            template.write_text(_PROMPT_TEMPLATE)
            oracle = {
                "prompt_template": str(template),
                "fn_completions": judge,
                "completions_kwargs": {"model_name": "oracle"},
                "fn_completion_parser": lambda verdict: [verdict],
                "batch_size": 1,
                "is_randomize_output_order": False,
            }
            return alpaca_eval.evaluate(  # type: ignore[no-any-return]
                model_outputs=outputs,
                reference_outputs=baselines,
                annotators_config={"oracle": oracle},
                Annotator=_inline_annotator(),
                annotation_kwargs={"is_ordered": True, "chunksize": None},
                fn_metric="get_winrate",
                sort_by="win_rate",
                caching_path=None,
                output_path=None,
                precomputed_leaderboard=None,
                is_return_instead_of_print=True,
            )


def _inline_annotator() -> type:
    """A PairwiseAnnotator whose judge is a Python function instead of a configuration file."""
    annotators = importlib.import_module("alpaca_eval.annotators")

    class InlineAnnotator(annotators.PairwiseAnnotator):  # type: ignore[misc, name-defined]
        def _initialize_annotators_config(self, annotators_config: dict[str, Any]) -> Path:
            self._inline = annotators_config
            return Path("inline") / next(iter(annotators_config)) / "configs.yaml"

        def _initialize_annotators(self, **kwargs: Any) -> dict[str, Any]:
            return {
                name: self.SingleAnnotator(
                    seed=self.seed,
                    annotation_column=self.annotation_key,
                    completion_column=self.completion_key,
                    **options,
                    **kwargs,
                )
                for name, options in self._inline.items()
            }

    return InlineAnnotator
