"""From a context's text to question and answer pairs: labels as they stand, the rest by the backbone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone

_LABELLED = re.compile(r"^(?P<asked>.*\S)\s*label\s*:\s*(?P<label>\S+)\s*$", re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_ASK = (
    "\nWrite {count} questions about the text above with short answers, as a JSON list of objects with the "
    'keys "question" and "answer".\n'
)


@dataclass
class Pairs:
    """Pairs to learn, and how many were taken from labels, synthesised, or lost in unreadable replies."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    labelled: int = 0
    synthesised: int = 0
    malformed: int = 0


def labelled_pairs(lines: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(utterance with its mark, label) of the lines that show a label; and the other lines."""
    pairs, others = [], []
    for line in lines:
        found = _LABELLED.match(line)
        if found:
            text = line[: line.rindex(found["label"])].rstrip()
            pairs.append((text, found["label"]))
        else:
            others.append(line)
    return pairs, others


def parse_pairs(reply: str) -> list[tuple[str, str]]:
    """Every object with question and answer in a reply, whatever stands around them."""
    found = []
    for text in _OBJECT.findall(reply):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        question, answer = value.get("question"), value.get("answer")
        if isinstance(question, str) and isinstance(answer, (str, int, float)) and question.strip():
            found.append((question.strip(), str(answer).strip()))
    return found


def pairs_of(backbone: Backbone, passages: Sequence[str], count: int, new_tokens: int) -> Pairs:
    """Pairs of every passage; one whose reply cannot be read is learnt as plain text instead."""
    from deltamem_eval.backbone import Request

    made, rest = Pairs(), []
    for passage in passages:
        pairs, others = labelled_pairs(passage.splitlines())
        made.pairs += pairs
        made.labelled += len(pairs)
        if any(line.strip() for line in others):
            rest.append("".join(f"{line}\n" for line in others))
    room = backbone.positions - new_tokens
    prompts = [text + _ASK.format(count=count) for text in rest]
    replies = backbone.generate(
        [Request(tuple(backbone.encode(prompt)[-room:]), new_tokens) for prompt in prompts]
    )
    for text, reply in zip(rest, replies, strict=True):
        pairs = parse_pairs(reply.text)
        made.synthesised += len(pairs)
        made.malformed += not pairs
        made.pairs += pairs or [("", text)]
    return made
