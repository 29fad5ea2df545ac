"""From a context's text to question and answer pairs: labels as they stand, the rest by the backbone."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deltamem_eval.interface import Query
from deltamem_eval.methods.context2lora.passages import passages
from deltamem_eval.methods.window import LEAST_WINDOW

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.prompt import PromptBuilder

_LABELLED = re.compile(r"^(?P<asked>.*\S)\s*label\s*:\s*(?P<label>\S+)\s*$", re.IGNORECASE)
_LABEL = re.compile(r"^\s*(?P<mark>label\s*:)\s*(?P<label>\S+)\s*$", re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_ASK = (
    "\nWrite {count} questions about the text above with short answers, as a JSON list of objects with the "
    'keys "question" and "answer".\n'
)
_EACH, _REPLY = 64, 4096  # tokens of a question with its answer, and the most of a reply (Back et al. 2026)


@dataclass
class Pairs:
    """Pairs to learn, and how many were taken from labels or synthesised.

    passages: asked about; malformed: of these, those whose replies could not be read.
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)
    labelled: int = 0
    synthesised: int = 0
    passages: int = 0
    malformed: int = 0

    @property
    def mostly_labelled(self) -> bool:
        """Whether more than half of the pairs are labelled examples."""
        return 2 * self.labelled > len(self.pairs)


def labelled_pairs(lines: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(utterance with its mark, label) of the lines that show a label; and the other lines.

    A label stands at its utterance's end, or alone on the next line, as in MemoryAgentBench's in-context
    learning.
    """
    pairs: list[tuple[str, str]] = []
    others: list[str] = []
    above: str | None = None  # a line that may be the utterance of a label on the next one
    for line in lines:
        alone = _LABEL.match(line)
        if alone and above is not None:
            pairs.append((f"{above.strip()}\n{alone['mark']}", alone["label"]))
            above = None
            continue
        if above is not None:
            _sort(above, pairs, others)
        above = None if alone or not line.strip() else line
        if above is None:
            others.append(line)
    if above is not None:
        _sort(above, pairs, others)
    return pairs, others


def _sort(line: str, pairs: list[tuple[str, str]], others: list[str]) -> None:
    """Put a line with the pairs where it ends with a label, else with the others."""
    found = _LABELLED.match(line)
    if found:
        pairs.append((line[: line.rindex(found["label"])].rstrip(), found["label"]))
    else:
        others.append(line)


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


def pairs_of(backbone: Backbone, prompts: PromptBuilder, text: str, count: int, most: int) -> Pairs:
    """Pairs of a context: its labelled examples, and `count` questions on each passage of the rest.

    most: tokens of a passage; fewer where the backbone's positions hold no more beside a reply. A passage
    whose reply cannot be read is learnt as plain text instead. Raises UserError for a backbone whose
    positions hold not even the instruction and a reply.
    """
    pairs, others = labelled_pairs(text.split("\n"))
    made = Pairs(pairs, labelled=len(pairs))
    rest = "\n".join(others)
    if not rest.strip():
        return made
    query = _asking(backbone, count)
    texts = passages(backbone, rest, max(min(most, prompts.room(query)), LEAST_WINDOW))
    requests = [prompts.build(backbone.encode(passage), query).whole() for passage in texts]
    made.passages = len(texts)
    for passage, reply in zip(texts, backbone.generate(requests), strict=True):
        found = parse_pairs(reply.text)
        made.synthesised += len(found)
        made.malformed += not found
        made.pairs += found or [("", passage)]
    return made


def _asking(backbone: Backbone, count: int) -> Query:
    """The instruction that follows a passage, with room for so many questions in the reply."""
    room = min(count * _EACH, _REPLY, backbone.positions // 4)
    return Query("of context2lora about a passage", _ASK.format(count=count), (), room, ())
