"""Rounds of online alignment: what each asks, the pairs that a judge makes of the answers, and their sum."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import AutoTokenizer

from halobench.data.pairing import pair_up
from halobench.data.sources.jsonl import read_feedback
from halobench.errors import DataError
from halobench.feedback import Feedback, Response, response
from halobench.generation import Decoding, Request, generate
from halobench.judges.base import Answer
from halobench.materials import Materials
from halobench.models.load import best_device, load_model
from halobench.registry import JUDGES
from halobench.sections import Online
from halobench.storage import canonical_json
from halobench.training import CURVES, SUMMARY

FEEDBACK, FACTS = "feedback.jsonl", "facts.json"
NO_CHOICE = "fewer than two different answers"
_SUMMED = ("steps", "completions", "tokens", "flops", "desirable", "undesirable")


def questions(feedback: Feedback, *, rounds: int, number: int, seed: int) -> list[Response]:
    """Return the preferred responses, for their prompts, of the pairs whose turn it is.

    Args:
        feedback: the base selection; each of its pairs has its turn in one round.
        rounds: their number.
        number: of the round, from 1.
        seed: of the partition.
    """
    order = list(range(len(feedback.pairs)))
    random.Random(f"rounds-{seed}").shuffle(order)
    return [feedback.responses[feedback.pairs[index].winner] for index in sorted(order[number - 1 :: rounds])]


def sample_feedback(
    materials: Materials,
    online: Online,
    number: int,
    policy: Path,
    folder: Path,
    report: Callable[[int, int], None],
) -> None:
    """Ask a policy the questions of a round, have its answers judged, write the pairs and facts about them.

    Args:
        materials: of the run.
        online: its rounds.
        number: of the round, from 1.
        policy: folder of the model that begins it.
        folder: receives the files.
        report: told how many answers are sampled, of how many.

    Raises:
        DataError: no pair is left, or the judge did not score every answer.
    """
    began = time.perf_counter(), time.process_time()
    seed = materials.recipe.data_seed
    asked = questions(materials.feedback, rounds=online.rounds, number=number, seed=seed)
    answers, tokens = _sample(materials, online, number, policy, asked, report)
    found = [(row, _different(given)) for row, given in zip(asked, answers, strict=True)]
    choices = [(row, different) for row, different in found if len(different) > 1]
    drops = Counter({NO_CHOICE: len(asked) - len(choices)})
    scores = _judge(materials, online, number, [answer for _, different in choices for answer in different])
    remaining = iter(scores)
    pairs: list[tuple[Response, Response]] = []
    for row, different in choices:
        rated = [
            response(row.prompt, each.text, group_id=row.group_id, source="online", score=next(remaining))
            for each in different
        ]
        pairs += pair_up(rated, "best_vs_worst", drops)
    if not pairs:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(drops.items()) if count)
        raise DataError(f"round {number}: none of its {len(asked)} prompts gave a pair: {reasons}")
    (folder / FEEDBACK).write_text("".join(map(_line, pairs)), encoding="utf-8", newline="\n")
    facts = {
        "sha256": read_feedback(folder / FEEDBACK).fingerprint.sha256,
        "num_prompts": len(asked),
        "num_pairs": len(pairs),
        "drops": {reason: count for reason, count in drops.items() if count},
        "num_judged": len(scores),
        "mean_score": sum(scores) / len(scores),
        "num_ended": sum(answer.ended for given in answers for answer in given),
        "tokens": tokens,
    }
    seconds = {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
    (folder / FACTS).write_text(canonical_json({"facts": facts, "seconds": seconds}))


def _sample(
    materials: Materials,
    online: Online,
    number: int,
    policy: Path,
    asked: Sequence[Response],
    report: Callable[[int, int], None],
) -> tuple[list[list[Answer]], int]:
    """Return answers to each question, and the tokens that went through the model.

    An answer has the room that a completion has in training, so that one without an end is trained without.
    """
    recipe = materials.recipe
    is_first = number == 1  # before the loss has taught its control tokens
    tokenizer = materials.tokenizer
    if not is_first:
        tokenizer = AutoTokenizer.from_pretrained(policy, trust_remote_code=recipe.model.trust_remote_code)
    control = None if is_first else next(iter(materials.loss.control_tokens), None)
    encoder = materials.encoder(tokenizer)
    each = [row for row in asked for _ in range(online.samples_per_prompt)]
    times: Counter[str] = Counter()  # a prompt of several pairs is asked as often, each time with other noise
    requests = []
    for row in each:
        prompt = encoder.prompt(row.prompt, control)
        room = max(1, recipe.data.max_length - len(prompt))
        requests.append(Request(f"round-{number}-{row.prompt_id}", times[row.prompt_id], prompt, room))
        times[row.prompt_id] += 1
    decoding = Decoding(
        temperature=online.temperature,
        seed=recipe.seed,
        max_new_tokens=max(request.limit or 1 for request in requests),
        eos=encoder.end,
        pad=tokenizer.pad_token_id,
        banned=[token for token in tokenizer.all_special_ids if token != encoder.end],
    )
    model = load_model(policy, recipe.precision, recipe.model.trust).to(best_device())
    samples = generate(model, requests, decoding, report)
    texts = [
        Answer(row.prompt, encoder.text(sample.tokens), sample.ended)
        for row, sample in zip(each, samples, strict=True)
    ]
    answers = [list(group) for group in zip(*[iter(texts)] * online.samples_per_prompt, strict=True)]
    prompts = {request.prompt for request in requests}
    return answers, sum(map(len, prompts)) + sum(len(sample.tokens) for sample in samples)


def _different(answers: Iterable[Answer]) -> list[Answer]:
    """The answers that say something, each once."""
    return list({answer.text.strip(): answer for answer in answers if answer.text.strip()}.values())


def _judge(materials: Materials, online: Online, number: int, answers: Sequence[Answer]) -> list[float]:
    if not answers:
        return []
    name = online.judge["name"]
    judge = JUDGES[name](**{key: value for key, value in online.judge.items() if key != "name"})
    stream = random.Random(f"judge-{number}-{materials.recipe.data_seed}")
    scores = [float(score) for score in judge.scores(answers, materials, stream)]
    if len(scores) != len(answers) or not all(map(math.isfinite, scores)):
        finite = sum(map(math.isfinite, scores))
        raise DataError(
            f"judge {name!r}: gave {finite} finite scores for {len(answers)} answers; it must score every one"
        )
    return scores


def _line(pair: tuple[Response, Response]) -> str:
    chosen, rejected = pair
    record = {
        "prompt": [turn._asdict() for turn in chosen.prompt],
        "chosen": chosen.completion,
        "rejected": rejected.completion,
        "group": chosen.group_id,
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


def join_rounds(parts: Sequence[tuple[Path, Path]], folder: Path) -> None:
    """Write one summary and one set of curves of all rounds; those of sampling are tokens without gradient.

    Args:
        parts: of each round the folders of its feedback and of its policy.
        folder: receives the files.
    """
    joined: dict[str, Any] = {key: 0 for key in _SUMMED}
    truncated: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    rounds, curves = [], []
    for feedback, policy in parts:
        told = json.loads((feedback / FACTS).read_text())
        summary = json.loads((policy / SUMMARY).read_text())
        rounds.append(told["facts"])
        joined["tokens"] += told["facts"]["tokens"]
        joined["flops"] += 2 * summary["parameters"] * told["facts"]["tokens"]
        part = pd.read_parquet(policy / CURVES)
        before = {"step": joined["steps"], "tokens": joined["tokens"]}
        curves.append(part.assign(**{key: part[key] + count for key, count in before.items()}))
        joined |= {key: joined[key] + summary[key] for key in _SUMMED}
        truncated.update(summary["truncated"])
        seconds.update(summary["seconds"])
        seconds.update(told["seconds"])
    reason = f"round {len(parts)}: {summary['reason']}" if summary["reason"] else None
    facts = {"status": summary["status"], "reason": reason, "parameters": summary["parameters"]}
    facts |= {"truncated": dict(truncated), "seconds": dict(seconds), "rounds": rounds}
    (folder / SUMMARY).write_text(canonical_json(joined | facts))
    pd.concat(curves, ignore_index=True).to_parquet(folder / CURVES, compression="zstd", index=False)
