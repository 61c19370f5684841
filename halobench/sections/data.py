"""Which feedback: where it comes from, how much of it, and what is done to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import model_validator

from halobench.sections.base import Count, Fraction, NonNegative, Positive, Section, Share

_OPTIONS = ("subset", "pairing", "binarise", "parts")
_MIXTURE = "mixture"


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
        fraction: of the pairs (or single answers), what losses are shown; SFT on the way to the reference
            sees everything, whatever these three are.
        desirable_fraction: of the desirable completions, what a loss is shown; of a pair both must be left.
        undesirable_fraction: of the undesirable ones.
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
    fraction: Share = 1.0
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
