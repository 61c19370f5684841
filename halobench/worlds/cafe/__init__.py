"""The world `cafe`: customers ask for a drink or a snack, staff answer, an oracle knows how well."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from halobench.errors import DataError
from halobench.feedback import EvaluationPrompt, Feedback, Message, Prompt, PromptSet, Response, response
from halobench.registry import SOURCES
from halobench.worlds.base import Document, Probe, World
from halobench.worlds.cafe.behaviour import PERSONAS, Staff
from halobench.worlds.cafe.language import (
    END,
    Constraint,
    Request,
    all_constraints,
    draw_request,
    parse_request,
    vocabulary,
)
from halobench.worlds.cafe.menu import ATTRIBUTES, Menu, draw_menu
from halobench.worlds.cafe.oracle import COMPONENTS, Annotator, Oracle
from halobench.worlds.cafe.skills import NUM_PROBES, Skills

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 1
NUM_PROMPTS = {"test": 512, "dev": 256}
REFERENCE_DRAWS = 16
_LEAST_SHARE_WITH_FIT = 0.6
_LEAST_FITS_OF_ONE_WISH = 3
# Set on dev so that the base knows what alignment is to elicit: facts .95 and pick .9 at least
# (results/README.md).
_SKILL_SHARES = {"dialogue": 0.4, "sort": 0.05, "pick": 0.35, "facts": 0.2}
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<user> ' if message['role'] == 'user' else '<bot> ' }}{{ message['content'] }}{{ ' ' }}"
    "{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


@SOURCES.register("cafe", source="halobench")
class Cafe(World):
    """The cafe: constraints over a drawn menu, staff with named failings, annotators with a taste for length.

    A pair is two answers to one request, compared by an annotator who sees the true utility plus 0.06 per
    token and chooses with temperature 0.5. The utility of an answer is the sum of task (the first
    recommendation meets every wish), truth (claims about it), manners, brevity and form.
    """

    components: ClassVar[tuple[str, ...]] = COMPONENTS
    skills: ClassVar[tuple[str, ...]] = tuple(NUM_PROBES)
    end_marker: ClassVar[str] = END

    def __init__(self, world_seed: int) -> None:
        self.world_seed = world_seed
        self.content_id = f"cafe-v{VERSION}-w{world_seed}"
        constraints = list(all_constraints())
        self.menu = _acceptable_menu(world_seed, constraints)
        items = self.menu.items.values()
        missed = {c: [(item.name, c.checks(item).count(False)) for item in items] for c in constraints}
        fitting = {c: [name for name, misses in row if misses == 0] for c, row in missed.items()}
        near = {c: [name for name, misses in row if misses == 1] for c, row in missed.items()}
        self.staff = Staff(self.menu, fitting, near)
        self.oracle = Oracle(self.menu)
        self._skills = Skills(self.menu, fitting, near)
        self._prompt_sets: dict[str, PromptSet] = {}

    @classmethod
    def open(cls, *, path: str | None, world_seed: int) -> Cafe:
        """Draw the world; there is nothing to read."""
        if path is not None:
            raise DataError(f"data.path = {path!r}: the world 'cafe' reads no files; drop data.path")
        return cls(world_seed)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return the word-level tokenizer: one token per word, number or mark."""
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from tokenizers.pre_tokenizers import WhitespaceSplit
        from transformers import PreTrainedTokenizerFast

        words = {word: index for index, word in enumerate(vocabulary())}
        tokenizer = Tokenizer(WordLevel(words, unk_token="<pad>"))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            bos_token="<bos>",
            eos_token="<eos>",
            additional_special_tokens=["<user>", "<bot>", "<good>", "<bad>"],
            chat_template=CHAT_TEMPLATE,
        )

    def documents(self, num_documents: int, *, seed: int) -> list[Document]:
        """Draw a corpus: dialogues of the staff and documents of the three skills, train side only."""
        stream = random.Random(f"cafe-{self.world_seed}-documents-{seed}")
        corpus = []
        for skill in stream.choices(list(_SKILL_SHARES), list(_SKILL_SHARES.values()), k=num_documents):
            if skill == "dialogue":
                request = draw_request(stream, "train")
                answer = self.staff.answer(stream, request)
                corpus.append(Document(f"<user> {request.text} <bot> {answer}", skill))
            else:
                corpus.append(self._skills.document(stream, skill))
        return corpus

    def feedback(self, *, num_pairs: int | None, split_seed: int) -> Feedback:
        """Draw `num_pairs` labelled pairs of distinct answers to train requests."""
        self.check_selection(num_pairs=num_pairs)
        requests = random.Random(f"cafe-{self.world_seed}-pairs-{split_seed}")
        coins = random.Random(f"cafe-{self.world_seed}-annotators-{split_seed}")
        rows: list[tuple[Response, Response]] = []
        while len(rows) < (num_pairs or 0):
            request = draw_request(requests, "train")
            pair = self._labelled_pair(requests, coins, request)
            if pair is not None:
                winner, loser = (
                    response(
                        _prompt(request),
                        answer,
                        group_id=request.constraint.text,
                        source="cafe",
                        score=self._utility(request, answer),
                    )
                    for answer in pair
                )
                rows.append((winner, loser))
        return Feedback.from_pairs(rows)

    def prompt_set(self, split: Literal["dev", "test"]) -> PromptSet:
        """Return one prompt for each of the constraints drawn first, with 16 labelled pairs of answers."""
        if split not in self._prompt_sets:
            requests = random.Random(f"cafe-prompts-{split}")
            drawn: dict[Constraint, Request] = {}
            while len(drawn) < NUM_PROMPTS[split]:
                request = draw_request(requests, split)
                drawn.setdefault(request.constraint, request)
            stream = random.Random(f"cafe-{self.world_seed}-answers-{split}")
            self._prompt_sets[split] = PromptSet(tuple(self._with_answers(stream, r) for r in drawn.values()))
        return self._prompt_sets[split]

    def _with_answers(self, stream: random.Random, request: Request) -> EvaluationPrompt:
        pairs: list[tuple[str, str]] = []
        while len(pairs) < REFERENCE_DRAWS:
            pair = self._labelled_pair(stream, stream, request)
            if pair is not None:
                pairs.append(pair)
        chosen, rejected = zip(*pairs, strict=True)
        key = request.constraint.text
        return EvaluationPrompt(key, key, _prompt(request), chosen, rejected)

    def _labelled_pair(
        self, answers: random.Random, coins: random.Random, request: Request
    ) -> tuple[str, str] | None:
        """Draw two answers and an annotator's choice: (chosen, rejected), or None if they are the same."""
        first, second = self.staff.answer(answers, request), self.staff.answer(answers, request)
        if first == second:
            return None
        annotator = Annotator()
        perceived = [annotator.perceived(a, self._utility(request, a)) for a in (first, second)]
        return (first, second) if annotator.prefers_first(coins, *perceived) else (second, first)

    def _utility(self, request: Request, answer: str) -> float:
        return sum(self.oracle.components(request, f"{answer} {END}").values())

    def utility(self, prompt: Prompt, completion: str) -> Mapping[str, float]:
        """Return task, truth, manners, brevity and form of an answer."""
        return self.oracle.components(_request(prompt), completion)

    def perceived(self, prompt: Prompt, completion: str, coins: random.Random) -> float:
        """Return the true utility with the annotators' taste for length and their noise."""
        annotator = Annotator()
        utility = sum(self.utility(prompt, completion).values())
        return annotator.perceived(completion.removesuffix(END), utility) + annotator.noise(coins)

    def best_of(self, prompts: Sequence[Prompt], num_samples: int, *, seed: int) -> list[str]:
        """Return the best by true utility of `num_samples` answers of the staff to each prompt."""
        stream = random.Random(f"cafe-{self.world_seed}-best-{seed}")
        best = []
        for prompt in prompts:
            request = _request(prompt)
            answers = [self.staff.answer(stream, request) for _ in range(num_samples)]
            best.append(max(answers, key=partial(self._utility, request)))
        return best

    def probes(self, skill: str, split: Literal["dev", "test"]) -> Sequence[Probe]:
        """Return the questions about one skill; `facts` has the same for both splits."""
        return self._skills.probes(skill, split)

    def describe(self) -> str:
        """Return the menu, the house specials and how answers are scored."""
        lines = [f"world cafe, seed {self.world_seed}: {len(self.menu.items)} items", ""]
        lines.append(f"{'item':12}{'kind':8}{'temp':6}{'price':>5}  contains")
        for item in sorted(self.menu.items.values(), key=lambda item: (item.kind, item.name)):
            contains = ", ".join(a for a in ATTRIBUTES if item.has[a]) or "-"
            lines.append(f"{item.name:12}{item.kind:8}{item.temperature:6}{item.price:5}  {contains}")
        lines += [
            "",
            "house specials: " + ", ".join(f"{k}: {n}" for k, n in sorted(self.menu.special.items())),
        ]
        return "\n".join(lines)


def _prompt(request: Request) -> Prompt:
    return (Message("user", request.text),)


def _request(prompt: Prompt) -> Request:
    text = prompt[-1].content if prompt else ""
    request = parse_request(text)
    if request is None:
        raise DataError(
            f"{text!r} is not a request of the cafe; "
            "ask for example 'hi , a cold snack , no milk , under 5 .'"
        )
    return request


def _acceptable_menu(world_seed: int, constraints: list[Constraint]) -> Menu:
    """Draw menus until most requests have a fit and every single wish has several."""
    single = [
        c for c in constraints if sum(part is not None for part in (c.temperature, *c.wishes, c.cap)) == 1
    ]
    attempt = 0
    while True:
        menu = draw_menu(world_seed, attempt, len(PERSONAS))
        items = menu.items.values()
        fits = {c: sum(all(c.checks(item)) for item in items) for c in constraints}
        share = sum(c.weight for c in constraints if fits[c])
        if share >= _LEAST_SHARE_WITH_FIT and min(fits[c] for c in single) >= _LEAST_FITS_OF_ONE_WISH:
            return menu
        attempt += 1
