"""LoCoMo's scores of one answer, each in 0..1, by the rules of its official scorer."""

from __future__ import annotations

import re
import string
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from deltamem_eval.tasks.locomo.dialogues import ADVERSARIAL

if TYPE_CHECKING:
    from nltk.stem import PorterStemmer

MULTI_HOP, OPEN_DOMAIN = 1, 3

_ARTICLES = re.compile(r"\b(a|an|the|and)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNKNOWN = ("no information available", "not mentioned")


def normalise(text: str) -> str:
    """Lower case; ASCII punctuation deleted; whole words a, an, the, and removed; white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


@cache
def _stemmer() -> PorterStemmer:
    from nltk.stem import PorterStemmer

    return PorterStemmer()


def stems(text: str) -> list[str]:
    """The normalised text's words, cut to their Porter stems."""
    return [_stemmer().stem(word) for word in normalise(text).split()]


def f1(prediction: str, gold: str) -> float:
    """Bag-of-stems F1, to the bit as the official scorer computes it.

    0 where the two share none, as where either is empty.
    """
    said, wanted = stems(prediction), stems(gold)
    shared = sum((Counter(said) & Counter(wanted)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def parts_f1(prediction: str, gold: str) -> float:
    """The gold's parts between commas, each by its best F1 against the prediction's parts; their mean.

    numpy's mean, as in the official scorer: it adds in another order than Python.
    """
    import numpy as np

    said, wanted = prediction.split(","), gold.split(",")
    return float(np.mean([max(f1(part, target) for part in said) for target in wanted]))


def exact_match(prediction: str, gold: str) -> float:
    """1 where the two normalised texts hold the same set of words, in any order."""
    return float(set(normalise(prediction).split()) == set(normalise(gold).split()))


def says_unknown(prediction: str) -> float:
    """1 where the prediction says, in one of the two phrases, that the dialogue does not tell."""
    said = prediction.lower()
    return float(any(phrase in said for phrase in _UNKNOWN))


def score(category: int, prediction: str, gold: str) -> dict[str, float]:
    """accuracy, f1 and exact_match of one answer.

    accuracy is what LoCoMo reports: for category 1 `parts_f1`, for category 5 `says_unknown`, else `f1`. In
    category 3 the gold ends at its first semicolon; what follows explains it.
    """
    if category == OPEN_DOMAIN:
        gold = gold.split(";", 1)[0].strip()
    plain = f1(prediction, gold)
    if category == MULTI_HOP:
        accuracy = parts_f1(prediction, gold)
    elif category == ADVERSARIAL:
        accuracy = says_unknown(prediction)
    else:
        accuracy = plain
    return {"accuracy": accuracy, "f1": plain, "exact_match": exact_match(prediction, gold)}
