"""Recipe: everything that defines one run, and the identities that follow from it."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import Field

from halobench.origin import is_on_hub
from halobench.registry import JUDGES, LOSSES
from halobench.sections import (
    Adapter,
    BaseStage,
    Board,
    Budget,
    Data,
    Execution,
    Model,
    Online,
    Optim,
    Scoring,
    Section,
    SFTStage,
    Tuning,
)
from halobench.storage import digest


class Recipe(Section):
    """One run.

    Attributes:
        suite: name of the suite it belongs to.
        label: its row on the board; by default the loss, with "-online" after it where `data.online` is set.
        control: whether the row is a control, shown but not ranked.
        adapter: what is trained instead of all weights; None trains these.
        reference: model that the loss, drift and KL are measured against: "sft" (the base where there is no
            SFT stage), "base", or a model of the same vocabulary by folder or id of the Hub. Training starts
            from the SFT model all the same.
        z0: whether the reference point is averaged over the optimizer step, or over each microbatch as in the
            paper.
        evaluate: which model is scored: the aligned one, or the stage before.
        split: prompts to score; runs on "dev" are for tuning and never on the board.
        seed: order of the data, new parameters, decoding.
        split_seed: selection of the data, the annotators' coins, the derangement, the SFT stage; "seed"
            follows `seed`.
        base_seed: the pre-trained model.
        world_seed: the world.
        content: digests of what the paths lead to, filled in when the recipe is read.
    """

    suite: str
    label: str = ""
    control: bool = False
    data: Data
    model: Model
    base: BaseStage | None = None
    sft: SFTStage | None = None
    loss: dict[str, Any]
    optim: Optim
    budget: Budget = Budget()
    adapter: Adapter | None = None
    reference: str = "sft"
    z0: Literal["step", "microbatch"] = "step"
    precision: Literal["32-true", "64-true", "bf16-mixed", "bf16-true"] = "32-true"
    evaluate: Literal["aligned", "reference", "base"] = "aligned"
    split: Literal["test", "dev"] = "test"
    seed: Annotated[int, Ge(0)] = 0
    split_seed: Annotated[int, Ge(0)] | Literal["seed"] = "seed"
    base_seed: Annotated[int, Ge(0)] = 0
    world_seed: Annotated[int, Ge(0)] = 0
    scoring: Scoring
    board: Board = Board()
    execution: Execution = Execution()
    trainer: dict[str, Any] = Field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    tuning: Tuning = Tuning()
    content: dict[str, str] = Field(default_factory=dict)

    @property
    def data_seed(self) -> int:
        """The seed that `split_seed` stands for."""
        return self.seed if self.split_seed == "seed" else self.split_seed

    @property
    def name(self) -> str:
        """What is evaluated, in one word: the loss, or the stage."""
        return str(self.loss["name"]) if self.evaluate == "aligned" else self.evaluate

    @property
    def default_label(self) -> str:
        """Its row on the board where the recipe does not name one."""
        is_online = self.evaluate == "aligned" and self.data.online is not None
        return f"{self.name}-online" if is_online else self.name

    @property
    def view(self) -> str:
        """Name of the batch type the loss is trained on."""
        return LOSSES[self.loss["name"]].view().__name__

    @property
    def reference_model(self) -> Model | None:
        """The reference, where it is neither the SFT model nor the base."""
        if self.reference in ("sft", "base"):
            return None
        commit = self.content.get("reference") if is_on_hub(self.reference) else None
        return self.model.model_copy(update={"path": self.reference, "revision": commit})

    @cached_property
    def base_identity(self) -> dict[str, Any]:
        """What the base model is made of."""
        dumped = self.model_dump(mode="json")
        if self.model.path is not None:
            return {
                "model": self.content["model"],
                "tokenizer": self.content.get("tokenizer"),
                "precision": self.precision,
            }
        return {
            "architecture": dumped["model"]["architecture"],
            "tokenizer": self.content.get("tokenizer"),
            "corpus": self.content["source"] if self.base else None,
            "base": dumped["base"],
            "base_seed": self.base_seed,
            "precision": self.precision,
        }

    @cached_property
    def selection_identity(self) -> dict[str, Any]:
        """What the base selection of the feedback is made of, its seed aside."""
        kept = self.data.model_dump(mode="json", include={"num_pairs", "max_length", "max_prompt_length"})
        # absent where they are not asked for, as in runs from before there was a choice
        asked = self.data.model_dump(mode="json", include={"overlong", "turns"}, exclude_defaults=True)
        return {"source": self.content["source"], **kept, **asked}

    @cached_property
    def reference_identity(self) -> dict[str, Any]:
        """What the reference model is made of: the base, and the SFT stage where there is one."""
        if self.sft is None:
            return {"base": self.base_identity, "sft": None}
        return {
            "base": self.base_identity,
            "sft": self.sft.model_dump(mode="json"),
            "selection": self.selection_identity,
            "split_seed": self.data_seed,
            "precision": self.precision,
            **self._adapted,
        }

    @property
    def _adapted(self) -> dict[str, Any]:
        """The adapter, where there is one."""
        return {} if self.adapter is None else {"adapter": self.adapter.model_dump(mode="json")}

    @cached_property
    def method_identity(self) -> dict[str, Any]:
        """What makes this row of the board, seeds aside; what the loss's view ignores is left out."""
        if self.evaluate != "aligned":
            return {"evaluate": self.evaluate}
        dumped = self.model_dump(mode="json")
        loss = LOSSES[self.loss["name"]]
        uses_z0 = loss(**{k: v for k, v in self.loss.items() if k != "name"}).uses_z0
        on_demonstrations = self.view == "Demonstrations"
        # absent where everything is kept, as in runs from before there was a choice
        keys = {"answers", "fraction", "desirable_fraction", "label_noise", "contradicting_share"}
        keys |= set() if on_demonstrations else {"undesirable_fraction"}
        keys |= set() if self.view == "Pairs" else {"contradictions"}
        return {
            **self.data.model_dump(mode="json", include=keys, exclude_defaults=True),
            "loss": dumped["loss"],
            "version": loss.version,
            "plugin": self.content.get("loss"),
            "optim": dumped["optim"],
            "multiple": self.budget.multiple,
            "labels": None if on_demonstrations else self.data.labels,
            "demonstrations": self.data.demonstrations if on_demonstrations else None,
            "z0": self._z0_identity if uses_z0 else None,
            **self._against,
            **({} if self.data.online is None else {"online": self._online_identity(self.data.online)}),
        }

    def _online_identity(self, online: Online) -> dict[str, Any]:
        """How feedback is sampled and judged; a judge that is somewhere counts by its content."""
        judge = {key: value for key, value in online.judge.items() if key != "path"}
        version = JUDGES[online.judge["name"]].version
        content = self.content.get("judge")
        return {**online.model_dump(mode="json"), "judge": judge, "version": version, "content": content}

    @property
    def _against(self) -> dict[str, str]:
        """The reference, where it is not what the policy starts from."""
        if self.reference == "sft" or (self.reference == "base" and self.sft is None):
            return {}
        return {"reference": self.content.get("reference", "base")}

    @property
    def _z0_identity(self) -> str:
        """How z0 is averaged; per microbatch it depends on their size too."""
        return self.z0 if self.z0 == "step" else f"microbatch of {self.execution.microbatch_tokens} tokens"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that the run's result depends on."""
        if self.evaluate == "base":
            stage: dict[str, Any] = {"base": self.base_identity}
        elif self.evaluate == "reference":
            stage = {"reference": self.reference_identity}
        else:
            stage = {
                "reference": self.reference_identity,
                "selection": self.selection_identity,
                "split_seed": self.data_seed,
                "budget": self.budget.model_dump(mode="json"),
                "precision": self.precision,
                **self._adapted,
            }
        split = {"split": self.split} if self.split == "dev" else {}
        return {**stage, **split, "method": self.method_identity, "seed": self.seed}

    @cached_property
    def run_id(self) -> str:
        """Name of the run: what is evaluated, the seed, and a digest of its identity."""
        return f"{self.name}-s{self.seed}-{digest(self.identity)[:12]}"

    @cached_property
    def method_id(self) -> str:
        """Digest of what makes the row."""
        return digest(self.method_identity)[:12]

    @cached_property
    def setting_id(self) -> str:
        """Digest of what makes rows comparable: selection, stages, model, budget, precision, prompts."""
        base = {key: value for key, value in self.base_identity.items() if key != "base_seed"}
        sft = None if self.sft is None else self.sft.model_dump(mode="json")
        return digest(
            {
                "base": base,
                "sft": sft,
                "selection": self.selection_identity,
                "seeds": "replicated" if self.split_seed == "seed" else self.split_seed,
                "budget": self.budget.model_dump(mode="json", exclude={"multiple"}),
                "precision": self.precision,
                "prompts": [self.split, self.scoring.num_prompts],
                **self._adapted,
            }
        )[:12]
