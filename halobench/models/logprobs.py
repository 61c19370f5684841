"""The scored forward: log-probabilities of the completion tokens of padded rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from halobench.data.batches import Rows


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

    def forward(self, hidden: Float[Tensor, "rows scored width"]) -> Float[Tensor, "rows scored"]:
        """Return (N, C) values; no gradient flows into the hidden states."""
        values: Tensor = self.layers(hidden.detach().to(next(self.parameters()).dtype))
        return values.squeeze(-1)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The distributions from which the scored tokens were to be drawn.

    Args:
        logits: (N, C, V) in float32 or better, before each scored token.
        targets: (N, C) the scored tokens.
        mask: (N, C) True at the scored tokens.
        hidden: (N, C, H) hidden states behind the logits, or None.
    """

    logits: Float[Tensor, "rows scored vocabulary"]
    targets: Int[Tensor, "rows scored"]
    mask: Bool[Tensor, "rows scored"]
    hidden: Float[Tensor, "rows scored width"] | None

    @property
    def logps(self) -> Float[Tensor, "rows scored"]:
        """(N, C) logit[y_t] - logsumexp(logits) in nats, zero at padding."""
        chosen = self.logits.gather(-1, self.targets[..., None]).squeeze(-1)
        return (chosen - self.logits.logsumexp(-1)) * self.mask


def predict(model: PreTrainedModel, rows: Rows, *, with_hidden: bool = False) -> Predictions:
    """Run padded rows through the model and keep what predicts their completions.

    Args:
        model: a causal language model.
        rows: (N, T) tokens; padding at the end is never attended to by what comes before it, so it needs no
            mask.
        with_hidden: keep the hidden states too.
    """
    num_rows, width = rows.input_ids.shape
    scored = max(1, int(rows.completion_lengths.max()))
    offsets = torch.arange(scored, device=rows.input_ids.device)
    positions = (rows.prompt_lengths[:, None] + offsets).clamp(max=width - 1)  # (N, C)
    starts = torch.arange(num_rows, device=rows.input_ids.device)[:, None] * width
    before = (starts + (positions - 1).clamp(min=0)).flatten()  # (N * C,) in the flattened rectangle
    output = model(input_ids=rows.input_ids, use_cache=False, output_hidden_states=with_hidden)

    def pick(states: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows scored width"]:
        return states.flatten(0, 1).index_select(0, before).view(num_rows, scored, -1)

    logits = pick(output.logits)
    return Predictions(
        logits=logits.to(torch.promote_types(logits.dtype, torch.float32)),
        targets=rows.input_ids.gather(1, positions),
        mask=offsets < rows.completion_lengths[:, None],
        hidden=pick(output.hidden_states[-1]) if with_hidden else None,
    )


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the model says of the completions.

    Args:
        logps: (N, C) log-probability of each scored token in nats, zero at padding.
        mask: (N, C) True at the scored tokens.
        values: (N, C) the critic's estimates, or None.
    """

    logps: Float[Tensor, "rows scored"]
    mask: Bool[Tensor, "rows scored"]
    values: Float[Tensor, "rows scored"] | None


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

    def forward(self, rows: Rows) -> Scored:
        """Score the completions of (N, T) padded rows: (N, C) log-probabilities, C the longest completion."""
        predictions = predict(self.model, rows, with_hidden=self.value_head is not None)
        values = None
        if self.value_head is not None:
            values = self.value_head(predictions.hidden) * predictions.mask
        return Scored(logps=predictions.logps, mask=predictions.mask, values=values)
