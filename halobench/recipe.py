"""Recipe: everything that defines one run, and the identities that follow from it."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, Field, model_validator

from halobench.registry import LOSSES
from halobench.storage import digest

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Gt(0)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Which feedback.

    Attributes:
        source: a registered source, see `halobench list datasets`.
        path: file or folder of a source that reads one.
        num_pairs: size of the base selection; None takes all.
        max_length: tokens of prompt and completion together; a longer completion loses its end.
        max_prompt_length: tokens of the prompt; a longer one loses its beginning.
        labels: "given", or "shuffled" over the completions (a control: nothing can be learned from them).
        demonstrations: "chosen", or "best_of_16" by true utility (a control that only a world allows).
    """

    source: str
    path: str | None = None
    num_pairs: Count | None = None
    max_length: Count = 512
    max_prompt_length: Count = 256
    labels: Literal["given", "shuffled"] = "given"
    demonstrations: Literal["chosen", "best_of_16"] = "chosen"

    @model_validator(mode="after")
    def _leave_room(self) -> Data:
        if self.max_prompt_length >= self.max_length:
            raise ValueError(
                f"max_prompt_length = {self.max_prompt_length} leaves no room for a completion in "
                f"max_length = {self.max_length}; lower it"
            )
        return self


class Architecture(Section):
    """A Llama made from scratch; the names are those of `transformers.LlamaConfig`."""

    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    max_position_embeddings: Count = 1024
    tie_word_embeddings: bool = True


class TokenizerFile(Section):
    """A tokenizer from a file or folder, with the special tokens that it does not name itself.

    Attributes:
        path: a `tokenizer.json`, or the folder that holds it.
        eos: token that ends a completion.
        pad: token that fills up rows; by default `eos`.
        bos: token that begins every prompt, if any.
    """

    path: str
    eos: str | None = None
    pad: str | None = None
    bos: str | None = None


class Model(Section):
    """Which base model.

    Attributes:
        path: a Hugging Face model folder.
        architecture: or a new model; a world then trains it in the stage `base`.
        tokenizer: where the folder has none, or a new model learns from files.
    """

    path: str | None = None
    architecture: Architecture | None = None
    tokenizer: TokenizerFile | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.path is None) == (self.architecture is None):
            raise ValueError(
                "give either model.path (a Hugging Face folder) or model.architecture (a new Llama)"
            )
        return self


class Optim(Section):
    """AdamW with linear warm-up and linear decay.

    Attributes:
        lr: peak learning rate.
        betas: decay of the moments.
        weight_decay: decoupled weight decay.
        warmup_fraction: share of the steps before the peak.
        final_fraction: learning rate of the last step, as a share of the peak.
        clip: largest norm of the gradient.
    """

    lr: Positive
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    weight_decay: NonNegative = 0.0
    warmup_fraction: Fraction = 0.1
    final_fraction: Fraction = 0.02
    clip: Positive = 1.0


class BaseStage(Section):
    """Pre-training on a world's documents.

    Attributes:
        num_documents: size of the corpus.
        steps: optimizer steps.
        batch_documents: documents per step.
        optim: its optimizer.
    """

    num_documents: Count
    steps: Count
    batch_documents: Count
    optim: Optim


class SFTStage(Section):
    """Fine-tuning on the chosen completions of the base selection; makes the reference.

    Attributes:
        epochs: passes over the demonstrations.
        batch_pairs: demonstrations per step.
        optim: its optimizer.
    """

    epochs: Positive = 1.0
    batch_pairs: Count
    optim: Optim


class Budget(Section):
    """How much every loss may train.

    Attributes:
        match: what is equal over losses: passes over the base pairs, completions consumed, or optimizer
            steps.
        epochs: passes over the base pairs.
        batch_pairs: pairs per optimizer step: twice as many completions in unpaired views, once in
            demonstrations.
        multiple: factor on the budget of one row; such a row is marked and unranked.
    """

    match: Literal["pairs", "examples", "steps"] = "pairs"
    epochs: Positive = 1.0
    batch_pairs: Count = 32
    multiple: Positive = 1.0


class Scoring(Section):
    """How policies are scored; not part of a run's identity.

    Attributes:
        scorers: registered scorers, see `halobench list scorers`.
        num_prompts: the first so many prompts of the set; None takes all.
        samples_per_prompt: sampled answers per prompt.
        temperatures: candidates for T*, chosen on the dev prompts; 1 is always scored.
        max_new_tokens: longest answer.
    """

    scorers: tuple[str, ...]
    num_prompts: Count | None = None
    samples_per_prompt: Count = 4
    temperatures: tuple[NonNegative, ...] = (1.0, 0.7, 0.5, 0.3, 0.0)
    max_new_tokens: Count = 128


class Board(Section):
    """What the leaderboard of the suite is about; declared before the runs, not part of their identity.

    Attributes:
        metric: primary metric, as scorer/metric.
        margin: difference below which two losses count as equal.
        family: losses that are ranked against each other; by default those of the recipe's matrix. Other
            losses are compared with each of them, and not ranked.
    """

    metric: str = "oracle/winrate"
    margin: Positive = 0.02
    family: tuple[str, ...] = ()


class Execution(Section):
    """Where and how fast; changes no result, so it is not part of a run's identity.

    Attributes:
        devices: processes that train one run.
        strategy: "auto" (one process), "ddp" or "fsdp".
        threads: CPU threads of a process.
        checkpoint_every: optimizer steps between checkpoints.
        microbatch_tokens: largest number of tokens, padding included, of one forward pass.
        logger: Lightning logger of the training curves.
    """

    devices: Count = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    threads: Count = 1
    checkpoint_every: Count = 200
    microbatch_tokens: Count = 16384
    logger: Literal["csv", "tensorboard", "wandb"] = "csv"


class Tuning(Section):
    """The search that chose the hyper-parameters of a row; stated by their file, shown on the board.

    Attributes:
        trials: settings tried.
        seeds: seeds of each.
        split: prompts that chose.
    """

    trials: Annotated[int, Ge(0)] = 0
    seeds: Annotated[int, Ge(0)] = 0
    split: Literal["dev"] = "dev"


class Recipe(Section):
    """One run.

    Attributes:
        suite: name of the suite it belongs to.
        label: its row on the board; by default the name of the loss.
        control: whether the row is a control, shown but not ranked.
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
    def view(self) -> str:
        """Name of the batch type the loss is trained on."""
        return LOSSES[self.loss["name"]].view().__name__

    @cached_property
    def base_identity(self) -> dict[str, Any]:
        """What the base model is made of."""
        dumped = self.model_dump(mode="json")
        if self.model.path is not None:
            return {"model": self.content["model"], "tokenizer": self.content.get("tokenizer")}
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
        data = self.model_dump(mode="json")["data"]
        kept = {key: data[key] for key in ("num_pairs", "max_length", "max_prompt_length")}
        return {"source": self.content["source"], **kept}

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
        }

    @cached_property
    def method_identity(self) -> dict[str, Any]:
        """What makes this row of the board, seeds aside; what the loss's view ignores is left out."""
        if self.evaluate != "aligned":
            return {"evaluate": self.evaluate}
        dumped = self.model_dump(mode="json")
        loss = LOSSES[self.loss["name"]]
        uses_z0 = loss(**{k: v for k, v in self.loss.items() if k != "name"}).uses_z0
        on_demonstrations = self.view == "Demonstrations"
        return {
            "loss": dumped["loss"],
            "version": loss.version,
            "plugin": self.content.get("loss"),
            "optim": dumped["optim"],
            "multiple": self.budget.multiple,
            "labels": None if on_demonstrations else self.data.labels,
            "demonstrations": self.data.demonstrations if on_demonstrations else None,
            "z0": self.z0 if uses_z0 else None,
        }

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
            }
        )[:12]
