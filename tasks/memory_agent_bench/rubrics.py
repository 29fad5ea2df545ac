"""What a judge is asked about an answer, in our own words, and what its replies mean.

LongMemEval: one yes-or-no question, worded by the question's type (Wu et al. 2025, arXiv 2410.10813).
∞Bench-Sum: fluency, recall of key points and precision of sentences, whose F1 counts (as HELMET has it, Yen
et al. 2025, arXiv 2410.02694).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

RUBRIC_VERSION = 3  # of prompts, and of what replies mean: raise when a verdict may change
Ask = Callable[[str, int], str]

_MARKUP = re.compile(r"[*_`\"“”]")
_NO = re.compile(r"\bno\b(?=\s*(?:$|\n|-(?!\w)|[^\w\s-]))")  # not that of "no idea" or "no-one"
_OBJECT = re.compile(r"\{[^{}]*\}")
_YES_OR_NO = "\n\nIs the response right? Reply with yes or no and nothing else."
_BASE = (
    "You compare a model's response to a question with the right answer. A response is right if it holds "
    "the right answer or says the same in other words; one with only a part of what is asked for is wrong."
)
_RULES = {
    "temporal-reasoning": " Numbers of days, weeks or months may be off by one.",
    "knowledge-update": " A response may name former values too, as long as the newest one is its answer.",
    "single-session-preference": " The right answer describes what a personal response must heed; "
    "not every point of it is needed as long as the user's own information is recalled and used rightly.",
}
_ABSTAIN = (
    "A question cannot be answered from the conversation it is about; the right answer says why. A response "
    "counts as right if it recognises that the question cannot be answered."
)


class NonsenseError(ValueError):
    """A judge's reply that is neither of what it was asked for."""


class NoKeyPointsError(ValueError):
    """A summary's row names no key points, so that its recall cannot be judged."""


def judged_chat(
    ask: Ask, question: str, golds: Sequence[str], answer: str, kind: str, abstain: bool
) -> float:
    """1 where the judge says that a LongMemEval answer is right. kind: the question's type.

    Raises NonsenseError for a reply that says neither yes nor no.
    """
    rule = _ABSTAIN if abstain else _BASE + _RULES.get(kind, "")
    prompt = (
        f"{rule}\n\nQuestion: {question}\nRight answer: {' / '.join(golds)}\nResponse: {answer}{_YES_OR_NO}"
    )
    return _verdict(ask(prompt, 10))


def _verdict(reply: str) -> float:
    """1 where a reply says that a response is right, 0 where it says that it is not.

    Right, by the official rule, if it holds a yes, whatever else it says. Wrong, unlike there, only if it
    says no: as a word at the end of the reply or of a line, or with a mark of punctuation after it. Raises
    NonsenseError for one that says neither, which the official scorer calls wrong.
    """
    said = _MARKUP.sub("", reply.lower())
    if "yes" in reply.lower():
        return 1.0
    if _NO.search(said):
        return 0.0
    raise NonsenseError("neither yes nor no")


def judged_summary(
    ask: Ask, golds: Sequence[str], answer: str, keypoints: Sequence[str]
) -> Mapping[str, float]:
    """Fluency (0 or 1), recall, precision and their F1 (0 where not fluent) of a summary.

    keypoints: at least one; raises NoKeyPointsError without any, asking nothing. Raises NonsenseError for a
    reply that holds no such JSON object, counts more than there are, or no sentence where there is a text.
    """
    if not keypoints:
        raise NoKeyPointsError("its row names no key points")
    fluency = _number(
        ask(
            "Is this text coherent, free of repetition and finished? Reply with a JSON object with the key "
            f'"fluency", 1 for yes and 0 for no.\n\nText: {answer}',
            256,
        ),
        "fluency",
        1,
    )
    if fluency not in (0, 1):
        raise NonsenseError("fluency is neither 0 nor 1")
    listed = "\n".join(f"{number}. {point}" for number, point in enumerate(keypoints, 1))
    recalled = _number(
        ask(
            "How many of these key points does the summary support? Reply with a JSON object with the key "
            f'"recall", their number.\n\nKey points:\n{listed}\n\nSummary: {answer}',
            1024,
        ),
        "recall",
        len(keypoints),
    )
    reply = ask(
        "Count the sentences of the summary, and how many of them the expert's summary supports. Reply "
        'with a JSON object with the keys "sentence_count" and "precision", two numbers.\n\n'
        f"Expert's summary: {' '.join(golds)}\n\nSummary: {answer}",
        1024,
    )
    sentences = _number(reply, "sentence_count", math.inf, 1 if answer.strip() else 0)
    supported = _number(reply, "precision", sentences)
    recall = recalled / len(keypoints)
    precision = supported / sentences if sentences else 0.0
    both = recall + precision
    f1 = fluency * 2 * recall * precision / both if both else 0.0
    return {"judge_fluency": fluency, "judge_recall": recall, "judge_precision": precision, "judge_f1": f1}


def _number(reply: str, key: str, most: float, least: float = 0) -> float:
    """A finite number from `least` to `most`, in the last JSON object of a reply that has one."""
    for text in reversed(_OBJECT.findall(reply)):
        try:
            value: Any = json.loads(text)[key]
            number = float(value)
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
        if math.isfinite(number) and least <= number <= most:
            return number
    raise NonsenseError(f"no {key} within its bounds")
