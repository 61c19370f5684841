"""The scored forward: from completions to the log-probabilities of their tokens, or to a loss of these."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from halobench.data.rows import Row, Rows, batch_by_length, batch_by_prompt, pack_rows, pad_rows
from halobench.models.attention import KeysAndValues, Segments, attending
from halobench.models.head import (
    Chunk,
    chunk_tokens,
    divide_examples,
    head_logits,
    join_recomputed,
    sum_in_one_pass,
    token_logps,
)

_BATCH_TOKENS = 8192


class ValueHead(nn.Module):
    """A critic: three linear layers on hidden states that it does not change.

    Args:
        hidden_size: width of the model.
        seed: of its weights.
    """

    def __init__(self, hidden_size: int, *, seed: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, 1),
        )
        stream = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=stream)
            else:
                nn.init.zeros_(parameter)

    def forward(self, hidden: Float[Tensor, "*tokens width"]) -> Float[Tensor, "*tokens"]:
        """Return (...,) values of (..., H) hidden states; no gradient flows into the hidden states."""
        values: Tensor = self.layers(hidden.detach().to(next(self.parameters()).dtype))
        return values.squeeze(-1)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The distributions from which the scored tokens were to be drawn, completion by completion.

    Args:
        logits: (S, V) in float32 or better, before each scored token.
        targets: (S,) the scored tokens.
        lengths: (N,) how many of them belong to each completion.
    """

    logits: Float[Tensor, "scored vocabulary"]
    targets: Int[Tensor, " scored"]
    lengths: Int[Tensor, " completions"]

    @property
    def logps(self) -> Float[Tensor, " scored"]:
        """(S,) logit[y_t] - logsumexp(logits) in nats."""
        return self.logits.gather(-1, self.targets[:, None]).squeeze(-1) - self.logits.logsumexp(-1)

    def sums(self, values: Float[Tensor, " scored"]) -> Float[Tensor, " completions"]:
        """(N,) sums of (S,) values over the tokens of each completion, in float64."""
        return rectangle(values.double(), self.lengths).sum(-1)


def predict(model: PreTrainedModel, rows: Rows) -> Predictions:
    """Run rows through the model and keep what predicts their completions."""
    if rows.segments:
        logits = head_logits(model, _last_states(model, rows).index_select(0, rows.predictors))
    else:  # padding at the end is never attended to by what comes before it, so it needs no mask
        logits = model(input_ids=rows.input_ids, use_cache=False).logits.flatten(0, 1)
        logits = logits.index_select(0, rows.predictors)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return Predictions(logits=logits, targets=rows.targets, lengths=rows.completion_lengths)


def rectangle(values: Float[Tensor, " scored"], lengths: Int[Tensor, " n"]) -> Float[Tensor, "n longest"]:
    """Lay out (S,) values of tokens as (N, C), a completion a row, zero where it has ended."""
    longest = max(1, int(lengths.max()))
    completion = torch.arange(len(lengths), device=values.device).repeat_interleave(
        lengths, output_size=len(values)
    )
    starts = lengths.cumsum(0) - lengths
    within = torch.arange(len(values), device=values.device) - starts[completion]
    laid_out = values.new_zeros(len(lengths) * longest)
    return laid_out.index_copy(0, completion * longest + within, values).view(len(lengths), longest)


def _last_states(
    model: PreTrainedModel,
    rows: Rows,
    *,
    memory: dict[int, KeysAndValues] | None = None,
    kept: dict[int, KeysAndValues] | None = None,
) -> Float[Tensor, "tokens width"]:
    """(T, H) last hidden states of packed rows."""
    layout = Segments(rows.segments, memory=memory, kept=kept)
    with attending(model):
        states: Tensor = model.base_model(
            input_ids=rows.input_ids, position_ids=rows.positions, use_cache=False, layout=layout
        ).last_hidden_state
    layout.kept = (
        None  # a layer that is computed again for its gradient would fill it, and hold it, once more
    )
    return states[0]


_packable: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


@torch.no_grad()
def can_pack(model: PreTrainedModel) -> bool:
    """Whether a model says the same of packed rows as of padded ones; a warning tells why it is not packed.

    Found out on a few tokens, once per model: whoever uses transformers' attention interface can.
    """
    if model not in _packable:
        _packable[model] = _says_the_same(model)
    return _packable[model]


def _says_the_same(model: PreTrainedModel) -> bool:
    prompt = tuple(range(1, 6))
    rows = [Row(prompt, (7, 8, 9), True), Row(prompt, (9, 7), True), Row((5, 3), (2, 6, 4, 1), True)]
    config = model.config.get_text_config()
    try:
        if getattr(config, "attention_chunk_size", None):
            raise NotImplementedError("chunked attention")
        packed, padded = (
            predict(model, make(rows).to(model.device)).logps.double() for make in (pack_rows, pad_rows)
        )
        asked: dict[int, KeysAndValues] = {}
        _last_states(model, pack_rows(rows).to(model.device), kept=asked)
        if len(asked) < config.num_hidden_layers:
            raise NotImplementedError("not every layer uses transformers' attention interface")
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
        worst = float((packed - padded).abs().max())
        if worst <= tolerance * max(1.0, float(padded.abs().max())):
            return True
        reason = f"packed, it is off by {worst:.2g} nats"
    warnings.warn(f"{type(model).__name__} is run padded, which is slower ({reason})", stacklevel=3)
    return False


def collate(model: PreTrainedModel, rows: Sequence[Row]) -> Rows:
    """Rows as the model takes them fastest, on its device."""
    return (pack_rows(rows) if can_pack(model) else pad_rows(rows)).to(model.device)


def batches(model: PreTrainedModel, rows: Sequence[Row]) -> Iterator[tuple[list[int], Rows]]:
    """Yield indices of rows that go through the model together, and these rows as it takes them.

    A few thousand tokens at once keep a GPU busy, and more would leave the caches of a CPU.
    """
    divide = batch_by_prompt if can_pack(model) else batch_by_length
    for part in divide(rows, _BATCH_TOKENS):
        yield part, collate(model, [rows[index]._replace(reference=None) for index in part])


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the model says of completions.

    Args:
        logps: (N, C) log-probability of each scored token in nats, zero at padding.
        mask: (N, C) True at the scored tokens.
        values: (N, C) the critic's estimates, or None.
    """

    logps: Float[Tensor, "rows scored"]
    mask: Bool[Tensor, "rows scored"]
    values: Float[Tensor, "rows scored"] | None


@runtime_checkable
class Objective(Protocol):
    """What is to be minimised over the completions of a microbatch.

    Attributes:
        separable: whether it is a sum over examples once it has started.
        rows_per_example: completions that belong together.
    """

    separable: bool
    rows_per_example: int

    def start(self, own: Callable[[], Scored], mismatched: Scored | None) -> None:
        """Take what is constant over the examples from what the model says, without gradient."""

    def __call__(self, scored: Scored, rows: slice) -> Float[Tensor, ""]:
        """Return the sum over the examples in these rows."""


class ScoredModel(nn.Module):
    """A model, and perhaps a critic, whose forward scores completions; the root of sharding.

    Args:
        model: a causal language model.
        value_head: the critic, or None.
    """

    def __init__(self, model: PreTrainedModel, value_head: ValueHead | None = None) -> None:
        super().__init__()
        self.model = model
        self.value_head = value_head

    def forward(
        self, rows: Rows, *, objective: Objective | None = None, mismatched: Rows | None = None
    ) -> Scored | Float[Tensor, ""]:
        """Score completions, or return an objective of their scores.

        Packed rows with an objective that is separable hold the logits of a few hundred tokens at a time, and
        go through the head once: each chunk's gradient is made with its loss.

        Args:
            rows: packed or padded.
            objective: asked chunk by chunk where it is separable.
            mismatched: other completions of the prompts of packed `rows`, scored without gradient for the
                objective to start from.
        """
        if not rows.segments:
            scored = self._score_padded(rows)
            if objective is None:
                return scored
            objective.start(lambda: scored, None)
            return objective(scored, slice(0, len(rows.completion_lengths)))
        kept: dict[int, KeysAndValues] | None = None if mismatched is None else {}
        states = _last_states(self.model, rows, kept=kept)
        hidden = states.index_select(0, rows.predictors)
        if objective is None:
            return self._score(hidden, rows)
        with torch.no_grad():
            other = None
            if mismatched is not None:
                more = _last_states(self.model, mismatched, memory=kept)
                behind = torch.cat((states, more)).index_select(0, mismatched.predictors)
                other = self._score(behind, mismatched)
            kept = None
            objective.start(torch.no_grad()(lambda: self._score(hidden, rows)), other)
        if not objective.separable:
            return objective(self._score(hidden, rows), slice(0, len(rows.completion_lengths)))
        lengths = rows.completion_lengths
        chunks = list(
            divide_examples(
                lengths.tolist(), objective.rows_per_example, chunk_tokens(self.model, hidden.device)
            )
        )

        def evaluate(part: Float[Tensor, "tokens width"], chunk: Chunk) -> Tensor:
            logps = self._token_logps(part, rows.targets[chunk.tokens])
            return objective(self._scored(logps, part, lengths[chunk.rows]), chunk.rows)

        return sum_in_one_pass(hidden, evaluate, chunks, self._head_parameters())

    def _score_padded(self, rows: Rows) -> Scored:
        """The plain computation: all logits at once, through the model's own forward."""
        output = self.model(
            input_ids=rows.input_ids, use_cache=False, output_hidden_states=self.value_head is not None
        )
        logits = output.logits.flatten(0, 1).index_select(0, rows.predictors)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        chosen = logits.gather(-1, rows.targets[:, None]).squeeze(-1)
        hidden = None
        if self.value_head is not None:
            hidden = output.hidden_states[-1].flatten(0, 1).index_select(0, rows.predictors)
        return self._scored(chosen - logits.logsumexp(-1), hidden, rows.completion_lengths)

    def _score(self, hidden: Float[Tensor, "scored width"], rows: Rows) -> Scored:
        """Score what (S, H) hidden states predict, a chunk at a time; the backward makes the logits again."""
        size = chunk_tokens(self.model, hidden.device)
        chunks = [Chunk(slice(i, i + size), slice(0, 0)) for i in range(0, len(hidden), size)]

        def evaluate(part: Float[Tensor, "tokens width"], chunk: Chunk) -> Tensor:
            return self._token_logps(part, rows.targets[chunk.tokens])

        logps = join_recomputed(hidden, evaluate, chunks, self._head_parameters())
        return self._scored(logps, hidden, rows.completion_lengths)

    def _scored(
        self,
        logps: Float[Tensor, " scored"],
        hidden: Float[Tensor, "scored width"] | None,
        lengths: Int[Tensor, " n"],
    ) -> Scored:
        values = None
        if self.value_head is not None and hidden is not None:
            values = rectangle(self.value_head(hidden), lengths)
        laid_out = rectangle(logps, lengths)
        mask = torch.arange(laid_out.shape[1], device=laid_out.device) < lengths[:, None]
        return Scored(logps=laid_out, mask=mask, values=values)

    def _token_logps(
        self, hidden: Float[Tensor, "tokens width"], targets: Int[Tensor, " tokens"]
    ) -> Float[Tensor, " tokens"]:
        return token_logps(head_logits(self.model, hidden), targets)

    def _head_parameters(self) -> list[nn.Parameter]:
        modules = [self.model.get_output_embeddings(), self.value_head]
        parameters = [p for module in modules if module is not None for p in module.parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]
