"""What a reply means where the official metric wants it bare.

A model that does as the official prompts say ("label: 43", a JSON object with an answer) gets 0 under the
official exact match. Here the answer is taken out of such replies first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from deltamem_eval.tasks.memory_agent_bench.replies import normalise, parse_reply

_LABEL = re.compile(r"label\s*:?\s*(\S+)", re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_LETTER = re.compile(r"^\W*([A-Da-d])\b\s*(?:[.:)]|$)")


def flexible(source: str, prediction: str, answers: Iterable[str]) -> float | None:
    """1 where what the reply means is an acceptable answer; None where replies are plain texts."""
    golds = list(answers)
    if source.startswith("icl_"):
        said = label_of(prediction)
        return float(any(normalise(said) == normalise(gold) for gold in golds))
    if source.startswith("detective_"):
        letter = option_of(prediction)
        return float(letter is not None and any(letter == option_of(gold) for gold in golds))
    if source.startswith("eventqa_"):
        said = parse_reply(prediction)
        return float(any(normalise(said) == normalise(gold) for gold in golds))
    return None


def label_of(reply: str) -> str:
    """What follows the last "label:" of a reply, else its parsed text."""
    found = _LABEL.findall(reply)
    return found[-1] if found else parse_reply(reply)


def option_of(reply: str) -> str | None:
    """The option letter of a reply, out of a JSON answer field where there is one."""
    for text in (*reversed(_OBJECT.findall(reply)), None):
        try:
            value = json.loads(text).get("answer") if text is not None else parse_reply(reply)
        except (ValueError, AttributeError):
            continue
        found = _LETTER.match(value) if isinstance(value, str) else None
        if found:
            return found[1].upper()
    return None
