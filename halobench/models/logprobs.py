"""The scored forward: log-probabilities of the completion tokens of padded rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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
        weight = self.layers[0].weight
        return self.layers(hidden.detach().to(weight.dtype)).squeeze(-1)


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
        """Score the completions of padded rows.

        log pi(y_t | x, y_<t) = logit[y_t] - logsumexp(logits) at the position before y_t, in float32 or better.

        Args:
            rows: (N, T) tokens; padding at the end is never attended to by what comes before it.

        Returns:
            (N, C) log-probabilities, C the longest completion.
        """
        scored = max(1, int(rows.completion_lengths.max()))
        offsets = torch.arange(scored, device=rows.input_ids.device)
        mask = offsets < rows.completion_lengths[:, None]  # (N, C)
        positions = (rows.prompt_lengths[:, None] + offsets).clamp(max=rows.input_ids.shape[1] - 1)
        targets = rows.input_ids.gather(1, positions)  # (N, C)
        before = (positions - 1).clamp(min=0)

        output = self.model(
            input_ids=rows.input_ids, use_cache=False, output_hidden_states=self.value_head is not None
        )
        logits = output.logits
        logits = logits.gather(1, before[..., None].expand(-1, -1, logits.shape[-1]))  # (N, C, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logps = logits.gather(-1, targets[..., None]).squeeze(-1) - logits.logsumexp(-1)
        values = None
        if self.value_head is not None:
            hidden = output.hidden_states[-1]
            values = self.value_head(hidden.gather(1, before[..., None].expand(-1, -1, hidden.shape[-1]))) * mask
        return Scored(logps=logps * mask, mask=mask, values=values)
