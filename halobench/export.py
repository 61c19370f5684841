"""An aligned policy as a folder for others: weights, tokenizer, recipe, a card of how it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from halobench.data.tokenize import TRANSCRIPT_TEMPLATE
from halobench.errors import ResultsError
from halobench.materials import Materials
from halobench.recipe import Recipe
from halobench.registry import LOSSES, SOURCES
from halobench.results.record import RunRecord, ScoreRecord
from halobench.results.store import Store
from halobench.stages import kept_policy
from halobench.storage import atomic_folder, canonical_json
from halobench.training import ADAPTER, CURVES, SUMMARY


def export_policy(run_id: str, folder: Path, store: Store, *, only_adapter: bool = False) -> None:
    """Write the policy of a run as a Hugging Face folder, whole or not at all.

    Args:
        run_id: of an aligned run.
        folder: is made; an empty one is replaced.
        store: where the run is recorded.
        only_adapter: write the adapter alone, in peft's format, for the model that the run started from.

    Raises:
        ResultsError: there is no such policy or adapter, or something is in the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultsError(f"{folder}: is not empty; name a new folder")
    record = store.record(run_id)
    recipe = Recipe.model_validate(record.recipe)
    policy = kept_policy(record)
    if only_adapter and not (policy / ADAPTER).is_dir():
        raise ResultsError(
            f"run {run_id}: all its weights were trained, there is no adapter; export without --adapter"
        )
    scores = [score for file in store.score_files(run_id) for score in file.scores]
    with atomic_folder(folder.resolve()) as target:
        tokenizer = AutoTokenizer.from_pretrained(policy, trust_remote_code=recipe.model.trust_remote_code)
        if only_adapter:
            shutil.copytree(policy / ADAPTER, target, dirs_exist_ok=True)
            tokenizer.save_pretrained(target)
        else:
            ours = shutil.ignore_patterns(SUMMARY, CURVES, ADAPTER)
            shutil.copytree(policy, target, dirs_exist_ok=True, ignore=ours)
        _complete(target, tokenizer, Materials(recipe).encoder(tokenizer).end)
        (target / "recipe.yaml").write_text(_recipe(record), encoding="utf-8")
        (target / "README.md").write_text(_card(record, recipe, scores, only_adapter), encoding="utf-8")


def _complete(folder: Path, tokenizer: PreTrainedTokenizerBase, end: int) -> None:
    """Have the folder say itself how the policy was asked, and with which token its answers end."""
    if tokenizer.chat_template is None:
        (folder / "chat_template.jinja").write_text(TRANSCRIPT_TEMPLATE, encoding="utf-8")
    file = folder / "generation_config.json"
    if not file.is_file():
        return
    generation = json.loads(file.read_text(encoding="utf-8"))
    known = generation.get("eos_token_id")
    ends = known if isinstance(known, list) else [] if known is None else [known]
    if end not in ends:
        ends = [*ends, end]
        file.write_text(canonical_json({**generation, "eos_token_id": ends}), encoding="utf-8")


def _recipe(record: RunRecord) -> str:
    """The resolved recipe, without what follows from it."""
    recipe = {key: value for key, value in record.recipe.items() if key != "content"}
    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


def _card(record: RunRecord, recipe: Recipe, scores: list[ScoreRecord], only_adapter: bool) -> str:
    loss = LOSSES[recipe.loss["name"]] if recipe.loss["name"] in LOSSES else None
    parts = [
        _front_matter(recipe, only_adapter),
        f"# {record.run_id}\n\n{_summary(recipe)}",
        "## Use\n\n" + _use(recipe, only_adapter, loss.control_tokens if loss is not None else ()),
        "## Training\n\n" + _table(["", ""], _facts(record, recipe)),
        "## Scores\n\n" + _scores(scores),
        "## How it was made\n\n"
        "`recipe.yaml` is the whole recipe, of its paths the last part. Where they lead to the same data\n"
        "and model, it makes this run again:\n\n"
        f"```sh\nhalobench run recipe.yaml\nhalobench export {record.run_id} FOLDER\n```",
        "## Licence\n\n"
        f"Those of the base model and of the data ({_source(recipe)}); look them up before you share this.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(recipe: Recipe, only_adapter: bool) -> str:
    facts: dict[str, Any] = {
        "library_name": "peft" if only_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["halobench", "alignment", str(recipe.loss["name"])],
    }
    if recipe.model.revision is not None:
        facts["base_model"] = recipe.model.path
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---"


def _summary(recipe: Recipe) -> str:
    return (
        f"A language model aligned with the loss `{recipe.loss['name']}` on `{recipe.data.source}` by "
        "halobench, which compares such losses on the same feedback."
    )


def _use(recipe: Recipe, only_adapter: bool, control_tokens: tuple[str, ...]) -> str:
    if only_adapter:
        start = "the SFT model of its recipe" if recipe.sft is not None else "its base model"
        grown = "start.resize_token_embeddings(len(tokenizer))  # it learned control tokens\n" * bool(
            control_tokens
        )
        text = (
            f"An adapter for {start}, which is needed beside it:\n\n```python\n"
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
            'start = AutoModelForCausalLM.from_pretrained("START")\n'
            f'{grown}model = PeftModel.from_pretrained(start, "FOLDER")\n```'
        )
    else:
        text = (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n```'
        )
    if control_tokens:
        text += f"\n\nTo ask for a good answer, end the prompt, template and all, with `{control_tokens[0]}`."
    return text


def _facts(record: RunRecord, recipe: Recipe) -> list[list[str]]:
    parameters = {key: value for key, value in recipe.loss.items() if key != "name"}
    told = ", ".join(f"{key} = {value}" for key, value in parameters.items())
    rows = [
        ["loss", f"{recipe.loss['name']}" + (f" ({told})" if told else "")],
        ["base model", _base(recipe)],
        ["stages before", ", ".join(_stages(recipe)) or "none"],
        ["reference", recipe.reference if recipe.reference != "sft" or recipe.sft is not None else "base"],
        ["data", _source(recipe)],
    ]
    if record.data is not None:
        data = record.data
        rows += [
            ["fingerprint of the data", data.sha256],
            ["feedback", f"{data.num_prompts} prompts, {data.num_pairs} pairs"],
            ["seen as", f"{data.view}: {data.view_desirable} desirable, {data.view_undesirable} undesirable"],
        ]
    if recipe.adapter is not None:
        adapter = recipe.adapter
        rows.append(["adapter", f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, merged"])
    if record.budget is not None:
        rows.append(["spent", f"{record.budget.steps} steps, {record.budget.tokens} tokens"])
    provenance = record.provenance
    versions = ", ".join(f"{name} {version}" for name, version in sorted(provenance.versions.items()))
    return [
        *rows,
        ["optimizer", f"AdamW, peak learning rate {recipe.optim.lr:g}"],
        ["precision", recipe.precision],
        ["seed", str(record.seed)],
        ["versions", versions],
        ["commit", f"{provenance.commit or 'unknown'}{', changed' if provenance.dirty else ''}"],
    ]


def _base(recipe: Recipe) -> str:
    if recipe.model.path is None:
        return "a new Llama of the recipe's architecture"
    revision = f" at {recipe.model.revision}" if recipe.model.revision is not None else ""
    return f"{recipe.model.path}{revision}"


def _stages(recipe: Recipe) -> list[str]:
    return [name for name, stage in (("base", recipe.base), ("SFT", recipe.sft)) if stage is not None]


def _source(recipe: Recipe) -> str:
    name = recipe.data.source
    return f"`{name}`" + (f", {SOURCES.source(name)}" if name in SOURCES else "")


def _scores(scores: list[ScoreRecord]) -> str:
    if not scores:
        return "None."
    rows = [
        [
            score.scorer,
            score.task,
            score.metric,
            f"{score.value:.4g}",
            "" if score.stderr is None else f"{score.stderr:.2g}",
            str(score.num_samples),
        ]
        for score in scores
    ]
    headers = ["scorer", "task", "metric", "value", "standard error over prompts", "prompts"]
    return f"Of this one seed; `halobench leaderboard` compares.\n\n{_table(headers, rows)}"


def _table(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
