"""Answers to the same prompts side by side: the words in which they differ, and what the oracle says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from halobench.leaderboard.page.words import Piece, cut, word_diff
from halobench.results.store import Store
from halobench.storage import parse_json

SAMPLES = "samples.parquet"
SHOWN_PROMPTS = 32
COMPONENTS = ("winrate", "utility", "task", "truth", "manners", "brevity", "form")


class Answer(NamedTuple):
    """A text that answers a prompt.

    Attributes:
        text: cut to what can be shown.
        left_out: characters that were cut.
        parts: component to the oracle's value, where it was recorded.
    """

    text: str
    left_out: int
    parts: dict[str, float]

    @property
    def wins(self) -> bool | None:
        """Whether it beats more of the preferred answers than it loses against; None if even or unknown."""
        rate = self.parts.get("winrate", 0.5)
        return None if rate == 0.5 else rate > 0.5


class Pair(NamedTuple):
    """Two answers to a prompt.

    Attributes:
        prompt_id: of the prompt.
        prompt: its text, or its name where the text is not stored.
        left: pieces of the first answer.
        right: pieces of the second one.
        answers: both, for what is told of them.
        disagree: whether one wins and the other does not; without an oracle, whether the texts differ.
    """

    prompt_id: str
    prompt: str
    left: list[Piece]
    right: list[Piece]
    answers: tuple[Answer, Answer]
    disagree: bool


class Showcase:
    """The recorded answers of runs; each file is read once.

    Args:
        store: where the runs are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._answers: dict[str, dict[tuple[str, str], Answer]] = {}
        self._asked: dict[str, str] = {}
        self._prompts: dict[str, dict[str, tuple[str, str | None]]] = {}

    def pairs(self, left: str, right: str, decode: str) -> list[Pair]:
        """The first answers of two runs to the same prompts, by name; none where either has no texts."""
        return self._paired(left, self._of(left, decode), self._of(right, decode))

    def beside_chosen(self, run_id: str, decode: str) -> list[Pair]:
        """A run's answers, each beside an answer that people or the oracle preferred."""
        chosen = {
            prompt_id: Answer(*cut(answer), {})
            for prompt_id, (_, answer) in self._texts(run_id).items()
            if answer is not None
        }
        return self._paired(run_id, self._of(run_id, decode), chosen)

    def decodes(self, run_id: str) -> list[str]:
        """How the recorded answers of a run were sampled: the primary decode first."""
        found = {decode for decode, _ in self._read(run_id)}
        return sorted(found, key=lambda decode: (decode != "T=1", decode))

    def prompt(self, run_id: str, prompt_id: str) -> str:
        """Text of a prompt that the run was scored on, or its name where the text is not stored."""
        return self._texts(run_id).get(prompt_id, (prompt_id, None))[0]

    def _of(self, run_id: str, decode: str) -> dict[str, Answer]:
        return {prompt: answer for (how, prompt), answer in self._read(run_id).items() if how == decode}

    def _paired(self, run_id: str, left: Mapping[str, Answer], right: Mapping[str, Answer]) -> list[Pair]:
        found = []
        for prompt_id in sorted(left.keys() & right.keys())[:SHOWN_PROMPTS]:
            answers = (left[prompt_id], right[prompt_id])
            pieces = word_diff(answers[0].text, answers[1].text)
            known = all("winrate" in answer.parts for answer in answers)
            differ = answers[0].wins != answers[1].wins if known else answers[0].text != answers[1].text
            found.append(Pair(prompt_id, self.prompt(run_id, prompt_id), *pieces, answers, differ))
        return found

    def _read(self, run_id: str) -> dict[tuple[str, str], Answer]:
        """Decode and prompt to the first answer of a run."""
        if run_id not in self._answers:
            file = self._store.run_path(run_id) / SAMPLES
            self._answers[run_id] = self._join(run_id, pd.read_parquet(file)) if file.is_file() else {}
        return self._answers[run_id]

    def _join(self, run_id: str, samples: pd.DataFrame) -> dict[tuple[str, str], Answer]:
        first = samples[samples["rep"] == 0]
        asked = set(first["prompt_id"])
        parts: dict[tuple[str, str], dict[str, float]] = {}
        for file in self._store.score_files(run_id):
            if file.scorer != "oracle":
                continue
            wanted = [("rep", "==", 0), ("metric", "in", list(COMPONENTS))]
            rows = pd.read_parquet(file.rows, filters=wanted)
            rows = rows[rows["prompt_id"].isin(asked)]
            columns = (rows[name] for name in ("decode", "prompt_id", "metric", "value"))
            for decode, prompt_id, metric, value in zip(*columns, strict=True):
                parts.setdefault((decode, prompt_id), {})[metric] = float(value)
        found = {}
        for key, text in zip(
            zip(first["decode"], first["prompt_id"], strict=True), first["text"], strict=True
        ):
            known = parts.get(key, {})
            found[key] = Answer(*cut(text), {name: known[name] for name in COMPONENTS if name in known})
        return found

    def _texts(self, run_id: str) -> dict[str, tuple[str, str | None]]:
        """Prompt to its text and a preferred answer, of the prompt set that the run was scored on."""
        if run_id not in self._asked:
            files = [file.rows.with_suffix(".json") for file in self._store.score_files(run_id)]
            configs = [parse_json(file.read_text(encoding="utf-8"))["config"] for file in files]
            self._asked[run_id] = next(
                (config["prompts"][:12] for config in configs if "prompts" in config), ""
            )
        return self._prompt_set(self._asked[run_id])

    def _prompt_set(self, name: str) -> dict[str, tuple[str, str | None]]:
        if name not in self._prompts:
            file = self._store.root / "promptsets" / f"{name}.parquet"
            table = pd.read_parquet(file) if file.is_file() else pd.DataFrame()
            columns = [table[key] for key in ("prompt_id", "prompt", "chosen") if "prompt" in table]
            self._prompts[name] = {
                prompt_id: (_turns(prompt), str(chosen[0]) if len(chosen) else None)
                for prompt_id, prompt, chosen in zip(*columns, strict=True)
            }
        return self._prompts[name]


def _turns(prompt: Iterable[Mapping[str, str]]) -> str:
    """A prompt as text: one turn as it is, several with who speaks."""
    turns = list(prompt)
    whole = "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
    text, left_out = cut(turns[0]["content"] if len(turns) == 1 else whole)
    return f"{text} ... ({left_out} further characters are left out)" if left_out else text
