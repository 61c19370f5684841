"""The sections of a recipe: which data, which model, which stages, how much training, which scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, model_validator

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Gt(0)]


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Online(Section):
    """Feedback on the policy's own answers, not the source's, in rounds of sampling, judging and training.

    Every pair of the base selection asks its prompt once, in one of the rounds; the best and the worst of the
    answers become a pair, so there are at most as many labels as without.

    Attributes:
        rounds: parts of the base selection, the next begun with the policy that the one before has trained.
        samples_per_prompt: answers that the judge compares.
        temperature: of their sampling.
        judge: name and parameters of a registered judge, see `halobench list judges`.
    """

    rounds: Count
    samples_per_prompt: Annotated[int, Ge(2)] = 2
    temperature: Positive = 1.0
    judge: dict[str, Any]


class Data(Section):
    """Which feedback.

    Attributes:
        source: a registered source, see `halobench list datasets`.
        path: file, folder, or Hub id of a source that reads one.
        pairing: which of several scored answers are compared, "adjacent", "all", "best_vs_worst" or
            "best_vs_rest"; None for what is usual for the source.
        num_pairs: size of the base selection; None takes all.
        max_length: tokens of prompt and completion together; a longer completion loses its end.
        max_prompt_length: tokens of the prompt; a longer one loses its beginning.
        labels: "given", or "shuffled" over the completions (a control: nothing can be learned from them).
        label_noise: share of the pairs (or labels) that losses are shown turned round.
        answers: that losses are shown, "all" or "one_per_prompt", as many of either label as there can be.
        desirable_fraction: of the desirable completions, what a loss is shown; of a pair both must be left.
        undesirable_fraction: of the undesirable ones. SFT on the way to the reference sees everything.
        demonstrations: "chosen", or "best_of_16" by true utility (a control that only a world allows).
        online: judged answers of the policy for the alignment; the stages before stay as they are.
    """

    source: str
    path: str | None = None
    pairing: Literal["adjacent", "all", "best_vs_worst", "best_vs_rest"] | None = None
    num_pairs: Count | None = None
    max_length: Count = 512
    max_prompt_length: Count = 256
    labels: Literal["given", "shuffled"] = "given"
    label_noise: Fraction = 0.0
    answers: Literal["all", "one_per_prompt"] = "all"
    desirable_fraction: Share = 1.0
    undesirable_fraction: Share = 1.0
    demonstrations: Literal["chosen", "best_of_16"] = "chosen"
    online: Online | None = None

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
        final_fraction: floor under the decay, as a share of the peak.
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
        engine: what samples: "halobench", whose noise depends on no batch, or "vllm", for GPUs.
    """

    scorers: tuple[str, ...]
    num_prompts: Count | None = None
    samples_per_prompt: Count = 4
    temperatures: tuple[NonNegative, ...] = (1.0, 0.7, 0.5, 0.3, 0.0)
    max_new_tokens: Count = 128
    engine: Literal["halobench", "vllm"] = "halobench"


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
        hot_path: "fused" packs rows, computes a prompt once and logits where they are scored; "reference" is
            the plain padded computation of the same.
        logger: Lightning logger of the training curves.
    """

    devices: Count = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    threads: Count = 1
    checkpoint_every: Count = 200
    microbatch_tokens: Count = 16384
    hot_path: Literal["fused", "reference"] = "fused"
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
