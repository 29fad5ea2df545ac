"""What a reply means where the official metric wants it bare.

A model that does as the official prompts say ("label: 43", a JSON object with an answer) gets 0 under the
official exact match. Here the answer is taken out of such replies first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from deltamem_eval.tasks.memory_agent_bench.replies import normalise, parse_reply
from deltamem_eval.tasks.memory_agent_bench.sources import source_of

_NUMBERED = re.compile(r"label:\s*(\d+)", re.IGNORECASE)
_LABEL = re.compile(r"label\s*:?\s*(\S+)", re.IGNORECASE)
_FIELD = re.compile(r'"answer"\s*:\s*"((?:[^"\\]|\\.)*)', re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)  # models print line breaks inside texts
_LETTER = re.compile(r"^\W*([A-Da-d])\b\s*(?:[.:)]|$)")


def flexible(source: str, prediction: str, answers: Iterable[str]) -> float | None:
    """1 where what the reply means is an acceptable answer; None where replies are plain texts."""
    golds, kind = list(answers), source_of(source).prefix
    if kind == "icl_":
        said = label_of(prediction)
        return float(any(normalise(said) == normalise(gold) for gold in golds))
    if kind == "detective_":
        letter = option_of(prediction)
        return float(letter is not None and any(letter == option_of(gold) for gold in golds))
    if kind == "eventqa_":
        said = parse_reply(prediction)
        return float(any(normalise(said) == normalise(gold) for gold in golds))
    return None


def label_of(reply: str) -> str:
    """The number after the last "label:" that has one, else what follows the last "label", else the parse."""
    found = _NUMBERED.findall(reply) or _LABEL.findall(reply)
    return str(found[-1]) if found else parse_reply(reply)


def option_of(reply: str) -> str | None:
    """The option letter of a reply, out of a JSON answer field where there is one.

    A field after the last whole object goes first, as in one that the budget of tokens cut off; then the last
    whole object's, its own before those of objects inside it; then the last field there is as text; then the
    parsed reply.
    """
    wholes, end = _objects(reply)
    stated = [value for whole in reversed(wholes) for value in _answers(whole)]
    fields = (*reversed(_FIELD.findall(reply, end)), *stated, *reversed(_FIELD.findall(reply)))
    for value in (*fields, parse_reply(reply)):
        found = _LETTER.match(value) if isinstance(value, str) else None
        if found:
            return found[1].upper()
    return None


def _objects(text: str) -> tuple[list[Any], int]:
    """The JSON objects in a text that are whole, in order, without those inside; where the last one ends."""
    found, last = [], 0
    start = text.find("{")
    while start >= 0:
        try:
            value, last = _DECODER.raw_decode(text, start)
            found.append(value)
            start = text.find("{", last)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
    return found, last


def _answers(whole: Any) -> Iterator[Any]:
    """What the `answer` fields of an object hold, its own first."""
    left = [whole]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value.get("answer")
            left += reversed(value.values())
        elif isinstance(value, list):
            left += reversed(value)
