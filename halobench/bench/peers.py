"""TRL's DPO and KTO trainers, at their defaults and at their best, on the tokens of the workload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, TrainerCallback

from halobench.bench.clock import Turnstile
from halobench.bench.workload import EOS, PAD, Setting, make_work
from halobench.sections import Optim


def train_with_trl(setting: Setting, turnstile: Turnstile, *, optim: Optim, beta: float, best: bool) -> None:
    """Train with TRL's own trainer and loop.

    Args:
        setting: what to train.
        turnstile: called between steps.
        optim: of the rate, the moments and the clipping.
        beta: of the loss.
        best: the reference precomputed and only completions put through the head. By default the reference
            runs in every step; on CPU, every position goes through the head.
    """
    import trl  # with what it brings along, it takes memory that belongs to no one else
    from datasets import Dataset
    from trl.trainer import utils

    if best and setting.device == "cpu":
        # asked only whether to leave out what is not scored, which TRL does where Triton runs
        utils._use_triton = lambda device: True
    rows = [unit for work in make_work(setting) for unit in work.units]
    options: dict[str, Any] = {
        "output_dir": "trl",
        "per_device_train_batch_size": len(rows) // setting.num_steps,
        "max_steps": setting.num_steps,
        "train_sampling_strategy": "sequential",
        "learning_rate": optim.lr,
        "adam_beta1": optim.betas[0],
        "adam_beta2": optim.betas[1],
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.clip,
        "lr_scheduler_type": "constant",
        "beta": beta,
        "precompute_ref_log_probs": best,
        "gradient_checkpointing": False,  # on by default: it saves memory and costs time
        "bf16": setting.precision == "bf16",
        "use_cpu": setting.device == "cpu",
        "dataloader_pin_memory": setting.device != "cpu",
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
    }
    make_trainer, make_config = (
        (trl.DPOTrainer, trl.DPOConfig) if setting.loss == "dpo" else (trl.KTOTrainer, trl.KTOConfig)
    )
    trainer = make_trainer(
        model=setting.policy(),
        ref_model=setting.reference(),
        args=make_config(**options),
        train_dataset=Dataset.from_list([_texts(unit) for unit in rows]),
        processing_class=_tokenizer(setting.shape.vocab_size),
        callbacks=[_Boundary(turnstile)],
    )
    if best:
        trainer.ref_model = None  # no longer needed
    trainer.train()


class _Boundary(TrainerCallback):  # type: ignore[misc]
    """Passes the turnstile before the first step, and after the log of every step."""

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self._turnstile()

    def on_log(self, args: Any, state: Any, control: Any, *, logs: dict[str, float], **others: Any) -> None:
        self._turnstile(logs["loss"])


def _texts(unit: Sequence[Any]) -> dict[str, Any]:
    """A unit as TRL takes it; it makes the tokens, and for KTO the mismatched completions, itself."""
    prompt = _text(unit[0].prompt) + " "
    if len(unit) == 2:
        return {"prompt": prompt, "chosen": _text(unit[0].completion), "rejected": _text(unit[1].completion)}
    return {"prompt": prompt, "completion": _text(unit[0].completion), "label": unit[0].desirable}


def _word(token: int) -> str:
    return f"<{token}>"


def _text(tokens: Sequence[int]) -> str:
    return " ".join(_word(token) for token in tokens)


def _tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer that gives back the tokens behind the texts."""
    model = WordLevel({_word(token): token for token in range(vocab_size)}, unk_token=_word(PAD))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_word(EOS), pad_token=_word(PAD))
