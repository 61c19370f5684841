"""Sampling whose noise depends on seed, prompt, sample and position, and on nothing else.

Texts are written in cohorts that begin together; finished texts leave, and others begin in their place.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from halobench.data.rows import Segment
from halobench.data.tokenize import Tokens
from halobench.models.attention import KeysAndValues, Segments, attending
from halobench.models.cohorts import Cohort, Cohorts
from halobench.models.head import head_logits
from halobench.models.logprobs import can_pack

_NUM_TEXTS = 1024  # written at the same time
_KEPT_BYTES = {"cpu": 2**29, "cuda": 2**33}  # of their keys and values
_REFILL_SHARE = 0.25  # of these texts that must be finished before others begin


@dataclass(frozen=True)
class Request:
    """One text to sample.

    Attributes:
        prompt_id: names the prompt in the noise, whatever its tokens.
        sample: number of the sample of this prompt.
        prompt: token ids.
        limit: tokens of this text, where it has less room than `Decoding.max_new_tokens`.
    """

    prompt_id: str
    sample: int
    prompt: Tokens
    limit: int | None = None


@dataclass
class Sample:
    """One sampled text.

    Attributes:
        tokens: token ids, the end marker included where it was reached.
        ended: whether it was reached.
        entropy: sum over the tokens of the entropy of the distribution each was drawn from, in nats.
    """

    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    entropy: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How texts are drawn.

    Attributes:
        temperature: 0 takes the most likely token.
        seed: of the noise.
        max_new_tokens: longest text.
        eos: the end marker.
        pad: fills up rows.
        banned: tokens that are never drawn.
    """

    temperature: float
    seed: int
    max_new_tokens: int
    eos: int
    pad: int
    banned: Sequence[int] = ()


def _nobody(done: int, total: int) -> None:
    """Tell nobody."""


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    requests: Sequence[Request],
    decoding: Decoding,
    report: Callable[[int, int], None] = _nobody,
) -> list[Sample]:
    """Sample a text for each request: argmax of logits / temperature + Gumbel noise.

    The noise of a token is a function of (seed, prompt_id, sample, position, token), so it is the same for
    every model, batch and rank; texts of two models differ only where their distributions do.

    Args:
        model: on any device.
        requests: in any order.
        decoding: how they are drawn.
        report: told how many requests are done, of how many.
    """
    if not requests or not decoding.max_new_tokens:
        return [Sample() for _ in requests]
    writer = _Writer(requests, decoding, model.device, report)
    # equal prompts become neighbours, which are read once; what takes longest comes first
    order = sorted(
        range(len(requests)), key=lambda index: (-len(requests[index].prompt), requests[index].prompt)
    )
    prompts = {request.prompt for request in requests}
    # of a text its own tokens are kept, and its share of those of the prompt, about
    num_kept = decoding.max_new_tokens + max(map(len, prompts)) * len(prompts) // len(requests)
    room = _KEPT_BYTES[model.device.type] // _bytes_per_token(model)
    num_texts = max(1, min(_NUM_TEXTS, room // num_kept))
    if can_pack(model):
        with attending(model):
            _write_in_cohorts(model, writer, deque(order), num_texts)
    else:
        for start in range(0, len(order), num_texts):
            _write_batch(model, writer, order[start : start + num_texts])
    return writer.samples()


def _bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of a token's keys and values in all layers."""
    config = model.config.get_text_config()
    num_heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // num_heads
    num_key_heads = getattr(config, "num_key_value_heads", None) or num_heads
    return int(2 * config.num_hidden_layers * num_key_heads * width * model.dtype.itemsize)


class _Writer:
    """Draws the tokens of all texts, and sorts them by text in the end.

    Args:
        requests: a text each.
        decoding: how they are drawn.
        device: of the logits.
        report: told how many texts are done.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        device: torch.device,
        report: Callable[[int, int], None],
    ) -> None:
        self.requests, self.decoding = requests, decoding
        self._banned = torch.tensor(decoding.banned, dtype=torch.long, device=device)
        longest = decoding.max_new_tokens
        limits = [longest if request.limit is None else min(request.limit, longest) for request in requests]
        self._last = torch.tensor(limits, device=device) - 1
        self._report = report
        self._num_done = 0
        self._drawn: list[tuple[Tensor, Tensor, Tensor]] = []

    def keys(self, indices: Sequence[int]) -> Int[Tensor, " rows"]:
        """Keys of the noise of some texts."""
        keys = [noise_key(self.decoding.seed, self.requests[index]) for index in indices]
        return torch.tensor(keys, device=self._banned.device)

    def write(
        self,
        owners: Int[Tensor, " rows"],
        keys: Int[Tensor, " rows"],
        positions: int | Int[Tensor, " rows"],
        logits: Float[Tensor, "rows vocabulary"],
    ) -> tuple[Int[Tensor, " rows"], Bool[Tensor, " rows"]]:
        """Draw a token of each text, and return it, and whether the text is finished.

        Args:
            owners: (N,) index of each text's request.
            keys: (N,) of the noise.
            positions: of the tokens in their texts.
            logits: (N, V), which are changed.
        """
        logits.index_fill_(1, self._banned[self._banned < logits.shape[1]], -torch.inf)
        tokens, entropy = _draw(logits, keys, positions, self.decoding.temperature)
        self._drawn.append((owners, tokens, entropy))
        finished = (tokens == self.decoding.eos) | (self._last[owners] <= positions)
        num_finished = int(finished.sum())
        if num_finished:
            self._num_done += num_finished
            self._report(self._num_done, len(self.requests))
        return tokens, finished

    def samples(self) -> list[Sample]:
        """The texts, in the order of the requests."""
        owners, tokens, entropy = (torch.cat(parts).cpu() for parts in zip(*self._drawn, strict=True))
        texts = torch.split(tokens[owners.argsort(stable=True)], owners.bincount().tolist())
        sums = torch.zeros(len(texts), dtype=torch.double).index_add_(0, owners, entropy.double())
        return [
            Sample(text.tolist(), int(text[-1]) == self.decoding.eos, nats)
            for text, nats in zip(texts, sums.tolist(), strict=True)
        ]


def _write_in_cohorts(model: PreTrainedModel, writer: _Writer, queue: deque[int], num_texts: int) -> None:
    cohorts: list[Cohort] = []
    while queue or cohorts:
        num_free = num_texts - sum(map(len, cohorts))
        if queue and num_free >= _REFILL_SHARE * num_texts:
            taken = [queue.popleft() for _ in range(min(num_free, len(queue)))]
            cohort, hidden = _begin(model, writer, taken)
            cohorts.append(cohort)
            step = Cohorts([cohort])
        else:
            step = Cohorts(cohorts)
            hidden = model.base_model(
                input_ids=step.column("tokens")[:, None],
                position_ids=(step.column("lengths") + step.positions - 1)[:, None],
                use_cache=False,
                layout=step,
            ).last_hidden_state[:, 0]
        logits = head_logits(model, hidden)
        drawn = writer.write(step.column("owners"), step.column("noise"), step.positions, logits)
        for cohort, tokens, finished in zip(step.cohorts, *map(step.split, drawn), strict=True):
            cohort.take(tokens, finished)
        cohorts = [cohort for cohort in cohorts if len(cohort)]


def _begin(
    model: PreTrainedModel, writer: _Writer, indices: Sequence[int]
) -> tuple[Cohort, Float[Tensor, "rows width"]]:
    """Read the prompts of some requests, equal ones once, and return the hidden states that end them."""
    prompts = [writer.requests[index].prompt for index in indices]
    distinct = list(dict.fromkeys(prompts))
    starts = dict(zip(distinct, accumulate(map(len, distinct), initial=0), strict=False))
    memory: dict[int, KeysAndValues] = {}
    layout = Segments(tuple(Segment(starts[prompt], len(prompt)) for prompt in distinct), kept=memory)
    hidden = model.base_model(
        input_ids=torch.tensor([[token for prompt in distinct for token in prompt]], device=model.device),
        position_ids=torch.tensor(
            [[place for prompt in distinct for place in range(len(prompt))]], device=model.device
        ),
        use_cache=False,
        layout=layout,
    ).last_hidden_state[0]
    owners, begins, lengths = torch.tensor(
        [(index, starts[prompt], len(prompt)) for index, prompt in zip(indices, prompts, strict=True)],
        device=model.device,
    ).T.contiguous()
    cohort = Cohort(owners, writer.keys(indices), begins, lengths, memory, writer.decoding.max_new_tokens)
    return cohort, hidden[begins + lengths - 1]


def _write_batch(model: PreTrainedModel, writer: _Writer, indices: Sequence[int]) -> None:
    """Write texts with transformers' own cache, prompts padded at the beginning."""
    device = model.device
    prompts = [writer.requests[index].prompt for index in indices]
    width = max(map(len, prompts))
    pad = writer.decoding.pad
    tokens = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    attention = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
    positions = (attention.cumsum(-1) - 1).clamp(min=0)
    owners, noise = torch.tensor(indices, device=device), writer.keys(indices)
    cache = DynamicCache(config=model.config)
    for position in range(writer.decoding.max_new_tokens):
        logits = model(
            input_ids=tokens,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        drawn, finished = writer.write(
            owners, noise, position, logits.to(torch.promote_types(logits.dtype, torch.float32))
        )
        kept = (~finished).nonzero().squeeze(1)
        if not len(kept):
            return
        tokens, positions = drawn[:, None], positions[:, -1:] + 1
        attention = torch.nn.functional.pad(attention, (0, 1), value=1)
        if len(kept) < len(owners):
            cache.batch_select_indices(kept)
            owners, noise, tokens, positions, attention = (
                column[kept] for column in (owners, noise, tokens, positions, attention)
            )


def _draw(
    logits: Float[Tensor, "rows vocabulary"],
    keys: Int[Tensor, " rows"],
    position: int | Int[Tensor, " rows"],
    temperature: float,
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return the drawn token of each row and the entropy in nats of the distribution it was drawn from."""
    if temperature == 0:
        return logits.argmax(-1), torch.zeros(len(logits), device=logits.device)
    logps = (logits / temperature).log_softmax(-1)
    noisy = gumbel(keys, position, logits.shape[-1]).add(logps)
    return noisy.argmax(-1), entropy(logps)


def entropy(logps: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, " rows"]:
    """Return (N,) -sum p log p in nats of (N, V) log-probabilities, -inf among them."""
    # a banned token has no probability, and adds 0 * the smallest number instead of 0 * -inf
    return -(logps.exp() * logps.clamp(min=torch.finfo(logps.dtype).min)).sum(-1)


def noise_key(seed: int, request: Request) -> int:
    """63-bit key of the noise of one text."""
    text = f"{seed}\x1f{request.prompt_id}\x1f{request.sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def gumbel(
    keys: Int[Tensor, " rows"], position: int | Int[Tensor, " rows"], vocabulary: int
) -> Float[Tensor, "rows vocabulary"]:
    """Return standard Gumbel noise, a pure function of key, position and token.

    g = -log(-log u), u uniform from the SplitMix64 hash of (key, position, token)

    Args:
        keys: (N,) 63-bit integers, one per text.
        position: of the token in the text; one for all, or (N,).
        vocabulary: number of tokens.
    """
    state = _mix(keys + (torch.zeros_like(keys) + position + 1) * 0x1E3779B97F4A7C15)  # (N,)
    tokens = torch.arange(vocabulary, device=keys.device) * 0x3F58476D1CE4E5B9
    bits = _mix(state[:, None] + tokens)  # (N, V)
    # 23 bits and a half are exact in float32; rounding one more could reach 1, and the noise be infinite
    uniform = (bits >> 41).bitwise_and_(0x7FFFFF).float().add_(0.5).mul_(2.0**-23)
    return uniform.log_().neg_().log_().neg_()


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's finaliser on 64-bit integers that wrap around; the masks make the shifts logical."""
    state = state ^ (state >> 30).bitwise_and_((1 << 34) - 1)
    state *= -0x40A7B892E31B1A47
    state ^= (state >> 27).bitwise_and_((1 << 37) - 1)
    state *= -0x6B2FB644ECCEEE15
    return state.bitwise_xor_((state >> 31).bitwise_and_((1 << 33) - 1))
