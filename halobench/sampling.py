"""One prompt to a run's reference and policy, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from halobench.feedback import Message
from halobench.generation import Request, generate
from halobench.materials import Materials
from halobench.recipe import Recipe
from halobench.registry import SOURCES
from halobench.results.record import RunRecord
from halobench.scoring.base import Contender
from halobench.stages import gone, kept_policy, stages_of


class Answer(NamedTuple):
    """What one model said.

    Attributes:
        who: "start" or "policy".
        text: with the end marker where it was emitted.
        components: of the true utility, where there is an oracle.
    """

    who: str
    text: str
    components: Mapping[str, float] | None


def answer_both(record: RunRecord, prompt: str, *, temperature: float, seed: int) -> list[Answer]:
    """Sample an answer of the model that alignment started from and one of the policy, with the same noise.

    Where it started from a model that is no stage of the recipe, the policy answers alone.

    Raises:
        ResultsError: the run has no policy, or its models are not there any more.
        DataError: the prompt is not in the language of the run's world.
    """
    recipe = Recipe.model_validate(record.recipe)
    policy = kept_policy(record)
    stages = stages_of(recipe)
    reference = stages[-1].path if stages else None
    if reference is not None and not reference.is_dir():
        raise gone(record)
    contender = Contender(Materials(recipe), policy, reference)
    materials = contender.materials
    turns = (Message("user", prompt),)
    # of other data a record does not tell where they are, and nobody has to know
    world = materials.world if SOURCES[recipe.data.source].is_world else None
    if world is not None:
        world.utility(turns, "")  # a prompt of another language is refused before anything is loaded
    answers = []
    for who, model, control in (
        ("start", contender.reference_model, None),
        ("policy", contender.model, contender.control),
    ):
        if model is None:
            continue
        [drawn] = generate(
            model,
            [Request(prompt, 0, contender.encoder.prompt(turns, control))],
            contender.decoding(temperature, seed),
        )
        text = contender.tokenizer.decode(drawn.tokens, clean_up_tokenization_spaces=False)
        answers.append(Answer(who, text, None if world is None else world.utility(turns, text)))
    return answers
