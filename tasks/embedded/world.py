"""The embedded world: which combinations are kept for evaluation, and how facts are worded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from deltamem_eval.tasks.embedded import words

Split = Literal["train", "eval"]
EVAL_SHARE = 4  # one combination in this many is kept for evaluation


def split_of(*parts: str) -> Split:
    """Which split a combination of words belongs to: decided by its hash alone, for ever."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8")).digest()
    return "eval" if digest[0] % EVAL_SHARE == 0 else "train"


@dataclass(frozen=True)
class Style:
    """How varied wording is. templates: how many of a kind are used; dressed: openings and closings."""

    templates: int
    dressed: bool


PLAIN = Style(1, False)
FULL = Style(4, True)

STATEMENTS = {
    "codes": (
        "the code of {key} is {value}",
        "{key} got the code {value}",
        "please give {key} the code {value}",
        "{key} must use code {value}",
    ),
    "labels": ("{key} label : {value}",),
    "rules": (
        "when somebody mentions the {key} reply with {value}",
        "any talk about the {key} is answered by {value}",
        "if you hear of the {key} then say {value}",
        "the rule for the {key} is {value}",
    ),
    "preferences": (
        "i like my {key} to be {value}",
        "my {key} should always be {value}",
        "for a {key} i want {value}",
        "i prefer a {key} in {value}",
    ),
    "topics": (
        "we went to the {key} with friends",
        "they met at the {key} once more",
        "the {key} was open this time",
        "she wrote about the {key} again",
    ),
    "updates": (
        "{key} lives in {value}",
        "the home of {key} is {value}",
        "{key} has moved to {value}",
        "you can find {key} in {value}",
    ),
}
QUESTIONS = {
    "codes": (
        "what is the code of {key} now ? answer :",
        "which code does {key} have ? answer :",
        "tell me the code for {key} please . answer :",
        "code that {key} must use ? answer :",
    ),
    "labels": ("{key} label :",),
    "rules": (
        "we walked past the {key} at noon . reply :",
        "have you seen the {key} lately ? reply :",
        "my sister works at the {key} now . reply :",
        "there was a crowd near the {key} yesterday . reply :",
    ),
    "preferences": (
        "please pick a {key} for me . choice :",
        "i need a new {key} today . choice :",
        "order the {key} for me now . choice :",
        "which {key} should they send me ? choice :",
    ),
    "topics": (
        "which place comes up most often ? answer :",
        "what place was named the most ? answer :",
        "the most frequent place here ? answer :",
        "where did things happen most often ? answer :",
    ),
    "updates": (
        "where does {key} live now ? answer :",
        "what is the current home of {key} now ? answer :",
        "in which city is {key} today ? answer :",
        "city where you can find {key} now ? answer :",
    ),
}
UTTERANCES = (
    "tell me about the {a} and the {b}",
    "i have a question on {a} and also {b}",
    "the {a} is a problem because of the {b}",
    "could you check the {a} before the {b}",
    "what happens to the {b} without a {a}",
    "is the {a} better than the {b}",
)


def sentence(kind: str, key: str, value: str, style: Style, rng: Random) -> str:
    """A context line that states key and value, with its newline."""
    template = rng.choice(STATEMENTS[kind][: style.templates])
    return dress(template.format(key=key, value=value), style, rng)


def dress(text: str, style: Style, rng: Random) -> str:
    """A line from its core: an opening always, so that every word has a space before it."""
    opening = rng.choice(words.OPENINGS) if style.dressed else words.OPENINGS[0]
    closing = rng.choice(words.CLOSINGS) if style.dressed and "label :" not in text else ""
    return " ".join(part for part in (opening, text, closing) if part) + "\n"


def question(kind: str, key: str, style: Style, rng: Random) -> str:
    """A prompt that the answer follows."""
    return "question : " + rng.choice(QUESTIONS[kind][: style.templates]).format(key=key)


def name(split: Split, rng: Random) -> str:
    """A full name of the split."""
    while True:
        parts = rng.choice(words.FIRST), rng.choice(words.LAST)
        if split_of("name", *parts) == split:
            return " ".join(parts)


def names(split: Split, count: int, rng: Random) -> list[str]:
    """Different full names that share no part, so that a first name tells the person."""
    found: list[str] = []
    parts: set[str] = set()
    while len(found) < count:
        made = name(split, rng)
        if parts.isdisjoint(made.split()):
            found.append(made)
            parts.update(made.split())
    return found


def code(split: Split, rng: Random) -> str:
    """A code of the split: a colour and an animal."""
    while True:
        parts = rng.choice(words.COLOURS), rng.choice(words.ANIMALS)
        if split_of("code", *parts) == split:
            return " ".join(parts)


def bindings(
    kind: str, keys: Sequence[str], values: Sequence[str], count: int, split: Split, rng: Random
) -> list[tuple[str, str]]:
    """Pairs of different keys and different values, each pair of the split."""
    while True:
        chosen_keys, chosen_values = rng.sample(keys, count), rng.sample(values, len(values))
        pairs: list[tuple[str, str]] = []
        for key in chosen_keys:
            value = next((item for item in chosen_values if split_of(kind, key, item) == split), None)
            if value is not None:
                chosen_values.remove(value)
                pairs.append((key, value))
        if len(pairs) == count:
            return pairs


def utterance(intent: str, split: Split, style: Style, rng: Random) -> str:
    """An utterance of an intent: two of its words in a template, the combination being of the split."""
    while True:
        template = rng.randrange(len(UTTERANCES) if style.dressed else 1)
        a, b = rng.sample(words.TOPIC_WORDS[intent], 2)
        if split_of("utterance", str(template), a, b) == split or not style.dressed:
            return UTTERANCES[template].format(a=a, b=b)
