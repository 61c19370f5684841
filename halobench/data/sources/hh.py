"""Anthropic's HH-RLHF: pairs of transcripts that differ in the last answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.data.sources.files import FileSource, Row, split_by_group
from halobench.errors import DataError
from halobench.feedback import Message, Prompt, response
from halobench.registry import SOURCES
from halobench.storage import digest, file_digest, home

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@SOURCES.register("hh", source="Bai et al. 2022, arXiv:2204.05862; Hub id Anthropic/hh-rlhf")
class HH(FileSource):
    """HH-RLHF transcripts from a folder (subsets with train and test .jsonl.gz or .jsonl), or from a Hub id.

    Turns are told apart by their marker, the answer is what follows the last Assistant marker, the group is
    the first Human turn. A row is dropped, and counted, unless both prompts agree, both answers say something
    and differ. A tenth of the train groups is held out as dev; train groups that occur in test are dropped.
    """

    @classmethod
    def open(cls, *, path: str | None, world_seed: int) -> HH:
        """Read every transcript."""
        if path is None:
            raise DataError(
                "data.path: is missing; give the folder of HH-RLHF, or the Hub id Anthropic/hh-rlhf"
            )
        from datasets import disable_progress_bars, load_dataset

        disable_progress_bars()
        cache = str(home() / "datasets")
        if Path(path).is_dir():
            files = {split: sorted(Path(path).rglob(f"{split}.jsonl*")) for split in ("train", "test")}
            absent = [split for split, found in files.items() if not found]
            if absent:
                raise DataError(
                    f"data.path = {path!r}: no {' and no '.join(absent)} file (.jsonl.gz) in that folder"
                )
            data_files = {split: [str(file) for file in found] for split, found in files.items()}
            rows = load_dataset("json", data_files=data_files, cache_dir=cache)
            content = digest([[split, file_digest(file)] for split in files for file in files[split]])[:16]
        else:
            try:
                rows = load_dataset(path, cache_dir=cache)
            except (FileNotFoundError, ConnectionError) as error:
                raise DataError(
                    f"data.path = {path!r}: neither a folder nor a data set that can be fetched "
                    f"({str(error).splitlines()[0]})"
                ) from None
            content = digest([rows["train"]._fingerprint, rows["test"]._fingerprint])[:16]
        drops: Counter[str] = Counter()
        train = parse_rows(rows["train"], drops)
        splits = split_by_group(train, test_share=0, dev_share=0.1)
        return cls(f"hh-{content}", {**splits, "test": parse_rows(rows["test"], Counter())}, drops)


def parse_rows(rows: Iterable[Mapping[str, Any]], drops: Counter[str]) -> list[Row]:
    """Parse rows of {"chosen", "rejected"}; what cannot be used is counted in `drops` by reason."""
    parsed = []
    for row in rows:
        if not all(isinstance(row.get(key), str) for key in ("chosen", "rejected")):
            raise DataError(f'a row has no text "chosen" or "rejected" (found keys: {", ".join(row)})')
        pair = _parse(row["chosen"], row["rejected"])
        if isinstance(pair, str):
            drops[pair] += 1
        else:
            parsed.append(pair)
    return parsed


def _parse(chosen: str, rejected: str) -> Row | str:
    """Return the pair, or the reason why it cannot be used."""
    if chosen == rejected:
        return "both answers are the same"
    sides = [_split(chosen), _split(rejected)]
    if any(not turns or turns[-1].role != "assistant" for turns in sides):
        return "the last turn is not the Assistant's"
    (*prompt, answer), (*other_prompt, other_answer) = sides
    if prompt != other_prompt:
        return "the prompts of the two sides differ"
    if not prompt:
        return "there is no prompt"
    if not answer.content or not other_answer.content:
        return "an answer is empty"
    if answer == other_answer:
        return "both answers are the same"
    group = digest(" ".join(prompt[0].content.lower().split()))[:16]
    turns: Prompt = tuple(prompt)
    return Row(
        response(turns, answer.content, group_id=group, source="hh"),
        response(turns, other_answer.content, group_id=group, source="hh"),
    )


def _split(transcript: str) -> list[Message]:
    """Split a transcript at its markers; a quoted "Human:" without the blank line before it is text."""
    _, *parts = _MARKER.split(transcript)
    return [
        Message(_ROLES[marker], text.strip()) for marker, text in zip(parts[::2], parts[1::2], strict=True)
    ]
