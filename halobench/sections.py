"""The sections of a recipe: which data, which model, which stages, how much training, which scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, model_validator

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Gt(0)]

_OPTIONS = ("subset", "pairing", "binarise", "parts")
_MIXTURE = "mixture"


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Binarise(Section):
    """How scored answers become single answers with a thumb.

    Attributes:
        rule: "threshold", up from a score on and down below it; "prompt_mean", the same around the mean of
            the prompt's answers; "best_vs_worst", up for the best of a prompt and down for the worst;
            "quantile", up for the share of the train answers with the highest scores, down for the lowest.
        at: the score of "threshold", the share of "quantile".
        margin: how far from the threshold or the mean a score must be.
    """

    rule: Literal["threshold", "prompt_mean", "best_vs_worst", "quantile"]
    at: float | None = None
    margin: NonNegative = 0.0

    @model_validator(mode="after")
    def _say_what_the_rule_needs(self) -> Binarise:
        if self.rule == "threshold" and self.at is None:
            raise ValueError("rule = 'threshold' needs the score that parts the thumbs; add at")
        if self.rule == "quantile" and not (self.at is not None and 0 < self.at <= 0.5):
            raise ValueError(
                f"rule = 'quantile' needs a share greater than 0 and at most 0.5, and at = {self.at}; "
                "0.25 takes the best and the worst quarter"
            )
        if self.rule in ("prompt_mean", "best_vs_worst") and self.at is not None:
            raise ValueError(f"rule = {self.rule!r} asks for no at, and at = {self.at:g}; drop it")
        if self.rule in ("best_vs_worst", "quantile") and self.margin:
            raise ValueError(f"rule = {self.rule!r} has no margin, and margin = {self.margin:g}; drop it")
        return self


class Origin(Section):
    """Where rows come from.

    Attributes:
        source: a registered source, see `halobench list datasets`.
        path: file, folder, or Hub id of a source that reads one.
        subset: the part that is read of a data set that comes in parts: a folder of it, or a configuration on
            the Hub; None for all of it.
        pairing: which of several scored answers are compared, "adjacent", "all", "best_vs_worst" or
            "best_vs_rest"; None for what is usual for the source.
        binarise: instead of comparing them, how several scored answers are labelled one by one.
    """

    source: str
    path: str | None = None
    subset: str | None = None
    pairing: Literal["adjacent", "all", "best_vs_worst", "best_vs_rest"] | None = None
    binarise: Binarise | None = None

    @model_validator(mode="after")
    def _pair_or_label(self) -> Self:
        if self.pairing is not None and self.binarise is not None:
            raise ValueError(
                f"pairing = {self.pairing!r} makes pairs of the scored answers, and binarise labels each; "
                "drop one of the two"
            )
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What the source is told beside its path: no more than what was said."""
        found = {key: getattr(self, key, None) for key in _OPTIONS}
        return {key: value for key, value in found.items() if value is not None}


class Part(Origin):
    """A data set of a mixture; where it comes from is said by the keys of `Origin`.

    Attributes:
        weight: of its train rows in the mixture; either every part has one, or none.
    """

    weight: Positive | None = None

    @model_validator(mode="after")
    def _stand_alone(self) -> Self:
        if self.source == _MIXTURE:
            raise ValueError("a mixture is no part of a mixture; name its parts instead")
        return self


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


class Data(Origin):
    """Which feedback; where it comes from is said by the keys of `Origin`.

    Attributes:
        parts: the data sets of the source "mixture".
        num_pairs: size of the base selection; None takes all.
        max_length: tokens of prompt and completion together.
        max_prompt_length: tokens of the prompt; a longer one loses its oldest turns.
        overlong: what happens where that is not enough: "cut" takes the beginning of the last turn, or the
            end of the completion; "drop" leaves the whole pair (or answer) out, for every loss.
        turns: as "given", or "joined": for chat templates that refuse system turns or two of one role.
        labels: "given", or "shuffled" over the completions (a control: nothing can be learned from them).
        label_noise: share of the pairs (or labels) that losses are shown turned round.
        contradicting_share: of all annotations, the share that annotators of the opposite taste add: so many
            pairs (or labels) are shown both ways, where noise shows them the wrong way only.
        contradictions: what losses on single answers are shown of one that is both desirable and undesirable:
            "keep" both labels, the one of the "majority" of the annotations (neither where there is none), or
            neither, "drop".
        answers: that losses are shown, "all" or "one_per_prompt", as many of either label as there can be.
        desirable_fraction: of the desirable completions, what a loss is shown; of a pair both must be left.
        undesirable_fraction: of the undesirable ones. SFT on the way to the reference sees everything.
        demonstrations: "chosen", or "best_of_16" by true utility (a control that only a world allows).
        online: judged answers of the policy for the alignment; the stages before stay as they are.
    """

    parts: tuple[Part, ...] | None = None
    num_pairs: Count | None = None
    max_length: Count = 512
    max_prompt_length: Count = 256
    overlong: Literal["cut", "drop"] = "cut"
    turns: Literal["given", "joined"] = "given"
    labels: Literal["given", "shuffled"] = "given"
    label_noise: Fraction = 0.0
    contradicting_share: Annotated[float, Ge(0), Le(0.5)] = 0.0
    contradictions: Literal["keep", "majority", "drop"] = "keep"
    answers: Literal["all", "one_per_prompt"] = "all"
    desirable_fraction: Share = 1.0
    undesirable_fraction: Share = 1.0
    demonstrations: Literal["chosen", "best_of_16"] = "chosen"
    online: Online | None = None

    @model_validator(mode="after")
    def _mix(self) -> Self:
        if self.source != _MIXTURE:
            if self.parts is not None:
                raise ValueError(
                    f"parts belong to source = 'mixture', and source = {self.source!r}; drop them"
                )
            return self
        if not self.parts:
            raise ValueError(
                "source = 'mixture' needs parts, for example parts: [{source: hh}, {source: shp}]"
            )
        told = [key for key in ("path", "subset", "pairing", "binarise") if getattr(self, key) is not None]
        if told:
            raise ValueError(f"source = 'mixture' takes no {', '.join(told)}; say it of each of the parts")
        if len({part.weight is None for part in self.parts}) == 2:
            raise ValueError("some of the parts have a weight and some have none; weigh all of them, or none")
        return self

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


class Trust(NamedTuple):
    """What of a model may run code when it is loaded.

    Attributes:
        remote_code: the Python files that it brings.
        pickle: weights that are not safetensors.
    """

    remote_code: bool = False
    pickle: bool = False


class Model(Section):
    """Which base model.

    Attributes:
        path: a Hugging Face model folder, or the id of a model of the Hub.
        revision: branch, tag or commit of a model of the Hub; the resolved recipe names the commit.
        trust_remote_code: whether to run the code that a model brings.
        allow_pickle: whether to read weights that are not safetensors.
        architecture: or a new model; a world then trains it in the stage `base`.
        tokenizer: where the folder has none, or a new model learns from files.
    """

    path: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    architecture: Architecture | None = None
    tokenizer: TokenizerFile | None = None

    @property
    def trust(self) -> Trust:
        """What of it may run code."""
        return Trust(self.trust_remote_code, self.allow_pickle)

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.path is None) == (self.architecture is None):
            raise ValueError(
                "give either model.path (a Hugging Face folder) or model.architecture (a new Llama)"
            )
        return self


class Adapter(Section):
    """Low-rank matrices that are trained beside frozen weights, in the SFT and the alignment stage.

    After a stage they are merged in the dtype of the precision, so that whoever uses the model finds an
    ordinary one; the adapter itself is kept beside it.

    Attributes:
        kind: "lora", or "qlora", which freezes the weights in 4 bits. Merged are those of 4 bits, made plain;
            the reference is the model before it was rounded, so step 0 cannot be checked.
        rank: of the matrices.
        alpha: their product counts alpha / rank times.
        dropout: of what goes into them.
        targets: names of linear layers; "all-linear" is all but the head.
    """

    kind: Literal["lora", "qlora"] = "lora"
    rank: Count = 16
    alpha: Positive = 32
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


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
        gradient_checkpointing: whether layers are computed again in the backward pass, which takes a third
            more time and much less memory.
        compile: whether torch.compile makes kernels of the layers, but for their attention; for GPUs.
        logger: Lightning logger of the training curves.
    """

    devices: Count = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    threads: Count = 1
    checkpoint_every: Count = 200
    microbatch_tokens: Count = 16384
    hot_path: Literal["fused", "reference"] = "fused"
    gradient_checkpointing: bool = False
    compile: bool = False
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
