"""A reward model: a Hugging Face folder of a sequence classifier with one label, its logit the score."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halobench.data.tokenize import TRANSCRIPT_TEMPLATE, Tokens
from halobench.errors import DataError
from halobench.judges.base import Answer, Judge
from halobench.registry import JUDGES
from halobench.storage import digest, file_digest

if TYPE_CHECKING:
    from halobench.materials import Materials

_CLASSIFIER = "ForSequenceClassification"


@JUDGES.register("reward_model", source="your model")
class RewardModel(Judge):
    """A sequence classifier with one label, such as a reward model of TRL.

    It reads the conversation in its own chat template, or as a transcript where it has none.

    Attributes:
        path: its folder, tokenizer included.
    """

    path: str

    def content(self) -> str:
        """Return a digest of the folder's files."""
        folder = Path(self.path)
        if not (folder / "config.json").is_file():
            raise DataError("no config.json there; give the folder of a sequence classifier")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = config.get("architectures") or []
        if not any(kind.endswith(_CLASSIFIER) for kind in kinds):
            named = ", ".join(kinds) or "of no named kind"
            raise DataError(f"the model there is {named}; give a sequence classifier with one label")
        num_labels = len(config.get("id2label", (0, 1)))  # two is what transformers leaves out
        if num_labels != 1:
            raise DataError(f"the classifier there has {num_labels} labels; give one with one, its score")
        if not any(folder.glob("tokenizer*")):
            raise DataError("the folder has no tokenizer; save the classifier's there")
        return digest([[file.name, file_digest(file)] for file in sorted(folder.iterdir()) if file.is_file()])

    def scores(self, answers: Sequence[Answer], materials: Materials, stream: random.Random) -> list[float]:
        """Return the classifier's logit for each prompt and answer.

        Raises:
            DataError: a conversation is longer than the classifier reads.
        """
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from halobench.data.rows import Row, batch_by_length
        from halobench.models.load import best_device

        tokenizer = AutoTokenizer.from_pretrained(self.path, padding_side="right")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model = AutoModelForSequenceClassification.from_pretrained(self.path, dtype="auto")
        model.config.pad_token_id = tokenizer.pad_token_id  # the score stands at the last token that is none
        model = model.to(best_device()).eval()
        template = tokenizer.chat_template or TRANSCRIPT_TEMPLATE
        rows = [Row(_tokens(answer, tokenizer, template), (), True) for answer in answers]
        longest = max(row.length for row in rows)
        most = getattr(model.config, "max_position_embeddings", None)
        if most is not None and longest > most:
            raise DataError(
                f"data.online.judge.path = {self.path!r}: a prompt with its answer takes {longest} tokens, "
                f"and the classifier reads {most}; lower data.max_length"
            )
        found = [0.0] * len(rows)
        with torch.no_grad():
            for part in batch_by_length(rows, materials.recipe.execution.microbatch_tokens):
                ids = [list(rows[index].prompt) for index in part]
                batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
                logits = model(**batch.to(model.device)).logits[:, 0].double()
                for index, score in zip(part, logits.tolist(), strict=True):
                    found[index] = score
        return found


def _tokens(answer: Answer, tokenizer: Any, template: str) -> Tokens:
    """The conversation as the classifier reads it; a chat template brings its own special tokens."""
    turns = [turn._asdict() for turn in answer.prompt]
    turns.append({"role": "assistant", "content": answer.text})
    text = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    return tuple(tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"])
