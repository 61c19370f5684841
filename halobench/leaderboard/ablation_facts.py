"""What can make two rows of a suite differ but their seeds, as flat keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from halobench.results.record import RunRecord

Facts = Mapping[str, Any]
DATA_KEYS = ("desirable_fraction", "undesirable_fraction", "label_noise", "contradicting_share")
_NEUTRAL: dict[str, Any] = {
    "desirable_fraction": 1.0,
    "undesirable_fraction": 1.0,
    "label_noise": 0.0,
    "contradicting_share": 0.0,
    "labels": "given",
    "demonstrations": "chosen",
    "answers": "all",
    "fraction": 1.0,
    "contradictions": "keep",
    "online": None,
}


def model_sizes(records: Sequence[RunRecord]) -> dict[str, int]:
    """Parameters of each model; the smallest count, since that of a loss with a critic includes it."""
    sizes: dict[str, int] = {}
    for record in records:
        if record.budget is not None:
            model = as_text(record.recipe["model"])
            sizes[model] = min(record.budget.parameters, sizes.get(model, record.budget.parameters))
    return sizes


def row_facts(record: RunRecord, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Everything that can make two rows of a suite differ but their seeds, as flat keys.

    What is not there is at its default: a record may be from before there was a choice.
    """
    recipe, data = record.recipe, record.recipe["data"]
    facts: dict[str, Any] = {
        "evaluate": record.evaluate,
        "source": recipe["content"].get("source"),
        "num_pairs": data["num_pairs"] or (record.data.num_pairs if record.data else None),
        "scale": sizes.get(as_text(recipe["model"])),
        "sft": recipe["sft"] is not None,
        "sft_stage": as_text(recipe["sft"]),
        "base": as_text(recipe["base"]),
        **{f"model.{key}": as_text(value) for key, value in recipe["model"].items() if value},
        **{key: recipe[key] for key in ("precision", "split_seed", "base_seed", "world_seed")},
        "adapter": as_text(recipe.get("adapter")),
    }
    if record.evaluate == "aligned":
        facts |= {f"loss.{key}": value for key, value in recipe["loss"].items() if value is not None}
        facts |= {f"optim.{key}": as_text(value) for key, value in recipe["optim"].items() if key != "lr"}
        facts |= {
            "optim.lr": recipe["optim"]["lr"],
            "z0": recipe["z0"],
            "reference": recipe.get("reference", "sft"),
        }
        facts |= {key: data.get(key, neutral) for key, neutral in _NEUTRAL.items()}
        facts["online"] = as_text(facts["online"])
        facts["match"] = recipe["budget"]["match"]
        facts["batch_pairs"] = recipe["budget"]["batch_pairs"]
        facts["passes"] = recipe["budget"]["epochs"] * recipe["budget"]["multiple"]
    else:
        facts |= {key: _NEUTRAL[key] for key in DATA_KEYS}
    return facts


def as_text(value: Any) -> str:
    """A value as one text, whatever it is made of."""
    return json.dumps(value, sort_keys=True)


def said(key: str, value: Any) -> str:
    """A fact in words."""
    if key == "sft":
        return "with SFT" if value else "no SFT"
    if value is None:
        return f"no {key.split('.')[-1]}"
    if isinstance(value, float):
        value = f"{value:.3g}"
    return f"{key.split('.')[-1]}={value}"
