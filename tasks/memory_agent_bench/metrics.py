"""The benchmark's metrics, compatible with its official scorer, each in 0..1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable

from deltamem_eval.tasks.memory_agent_bench.sources import source_of

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MARK = re.compile(r"answer:", re.IGNORECASE)
_VERDICTS = frozenset({"yes", "no", "noanswer"})


def normalise(text: str) -> str:
    """Lower case; ASCII punctuation deleted; whole words a, an, the removed; white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """1 where the normalised texts are the same."""
    return float(normalise(prediction) == normalise(gold))


def substring_exact_match(prediction: str, gold: str) -> float:
    """1 where the normalised gold stands in the normalised prediction, by characters."""
    return float(normalise(gold) in normalise(prediction))


def f1(prediction: str, gold: str) -> float:
    """Bag-of-tokens F1; yes, no and noanswer match only themselves."""
    said, wanted = normalise(prediction), normalise(gold)
    if said != wanted and (said in _VERDICTS or wanted in _VERDICTS):
        return 0.0
    said_tokens, wanted_tokens = said.split(), wanted.split()
    shared = sum((Counter(said_tokens) & Counter(wanted_tokens)).values())
    if not shared:
        return 0.0
    return 2 * shared / (len(said_tokens) + len(wanted_tokens))


METRICS: dict[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "substring_exact_match": substring_exact_match,
    "f1": f1,
}


def parse_reply(text: str) -> str:
    """What follows "Answer:" on its line, else the first line, even where that is empty."""
    mark = _MARK.search(text)
    line = (text[mark.end() :] if mark else text).split("\n", 1)[0].strip()
    again = _MARK.match(line)
    return line[again.end() :].strip() if again else line


def best(metric: Callable[[str, str], float], texts: Iterable[str], golds: Iterable[str]) -> float:
    """The maximum over texts and acceptable answers; 0 without any."""
    golds = list(golds)
    return max((metric(text, gold) for text in texts for gold in golds), default=0.0)


def score(source: str, prediction: str, answers: Iterable[str]) -> dict[str, float]:
    """All metrics of one reply to a question of `source`. Raises UserError for an unknown source."""
    parsed = parse_reply(prediction)
    texts = (parsed,) if source_of(source).parsed_only else (prediction, parsed)
    answers = list(answers)
    return {name: best(metric, texts, answers) for name, metric in METRICS.items()}
