"""OpenAssistant's conversations: trees of messages whose sibling replies people ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from halobench.data.pairing import Pairing
from halobench.data.sources.published import UnexpectedRowError, answer, number, objects, text
from halobench.data.sources.ranked import RankedSource
from halobench.data.sources.reading import Record
from halobench.feedback import Message, Prompt, Response
from halobench.registry import SOURCES

_ROLES = {"prompter": "user", "assistant": "assistant"}


@SOURCES.register("oasst", source="Köpf et al. 2023, arXiv:2304.07327; Hub id OpenAssistant/oasst1")
class OASST(RankedSource):
    """OpenAssistant trees, as exported (one tree a row) or flat (one message a row, as on the Hub).

    English messages. By default each ranked reply is preferred to the next one of the same message, so that a
    reply in the middle is both preferred and not; scores are ranks turned round. The group is the tree.
    """

    pairing: ClassVar[Pairing] = "adjacent"

    hub_id: ClassVar[str] = "OpenAssistant/oasst1"

    @classmethod
    def gather(cls, records: Iterable[Record]) -> Iterator[Record]:
        """Yield trees; flat messages are put together first."""
        children: dict[str, list[dict[str, Any]]] = {}
        roots = []
        for record in records:
            if "prompt" in record:
                yield record
                continue
            message = {**record, "replies": []}
            if message.get("parent_id") is None:
                roots.append(message)
            else:
                children.setdefault(str(message["parent_id"]), []).append(message)
        waiting = list(roots)
        while waiting:
            message = waiting.pop()
            message["replies"] = children.pop(str(message.get("message_id")), [])
            waiting += message["replies"]
        for root in roots:
            yield {"message_tree_id": root.get("message_tree_id"), "prompt": root}
        for parent, replies in children.items():
            lost = f"{len(replies)} replies to {parent}, which is not there"
            yield {"message_tree_id": str(replies[0].get("message_tree_id")), "prompt": lost}

    @classmethod
    def answers_of(cls, record: Record, drops: Counter[str]) -> Iterator[list[Response]]:
        """Yield the ranked replies to every message of a tree."""
        tree = text(record, "message_tree_id")
        root = record["prompt"]
        if not isinstance(root, Mapping):
            raise UnexpectedRowError(f'"prompt" = {root!r}; expected the first message of a tree')
        waiting: list[tuple[Prompt, Mapping[str, Any]]] = [((), root)]
        while waiting:
            before, message = waiting.pop()
            role = _ROLES.get(text(message, "role"))
            if role is None:
                raise UnexpectedRowError(f'"role" = {message["role"]!r}; expected prompter or assistant')
            prompt = (*before, Message(role, text(message, "text")))
            replies = [reply for reply in objects(message, "replies") if reply.get("lang") == "en"]
            waiting += [(prompt, reply) for reply in reversed(replies)]
            ranked = [reply for reply in replies if reply.get("rank") is not None]
            if role == "user" and message.get("lang") == "en":
                drops["a reply without a rank"] += len(replies) - len(ranked)
                yield [
                    answer(
                        prompt, text(reply, "text"), source="oasst", group=tree, score=-number(reply, "rank")
                    )
                    for reply in ranked
                ]
