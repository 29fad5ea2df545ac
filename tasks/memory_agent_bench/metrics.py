"""The benchmark's metrics, compatible with its official scorer, each in 0..1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench.flexible import flexible
from deltamem_eval.tasks.memory_agent_bench.recsys import Catalogue, load_catalogue
from deltamem_eval.tasks.memory_agent_bench.replies import normalise, parse_reply
from deltamem_eval.tasks.memory_agent_bench.sources import source_of

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

FLEXIBLE = "flexible_exact_match"
_VERDICTS = frozenset({"yes", "no", "noanswer"})
_SPACED = re.compile(r"\b(?:a|an|the)\b|[^\w\s]")
_ROUGES = ("rougeL", "rougeLsum")


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
    return _token_f1(said.split(), wanted.split())


def _token_f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of two bags of tokens, to the bit as the official scorer computes it; 0 where they share none."""
    shared = sum((Counter(said) & Counter(wanted)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def rouge(prediction: str, gold: str) -> dict[str, float]:
    """F1 and recall of ROUGE-L and ROUGE-Lsum (Lin 2004), stemmed, of the texts as they are."""
    found = _rouge_scorer().score(target=gold, prediction=prediction)
    made = {f"{kind}_f1": float(found[kind].fmeasure) for kind in _ROUGES}
    return made | {f"{kind}_recall": float(found[kind].recall) for kind in _ROUGES}


@cache
def _rouge_scorer() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_ROUGES), use_stemmer=True)


def text_metrics(prediction: str, gold: str) -> dict[str, float]:
    """Every metric of one text against one acceptable answer."""
    return {
        "exact_match": exact_match(prediction, gold),
        "f1": f1(prediction, gold),
        "substring_exact_match": substring_exact_match(prediction, gold),
        **rouge(prediction, gold),
    }


def eventqa_recall(prediction: str, golds: Iterable[str]) -> float:
    """1 where every gold stands in the reply as it is, in any case of letters."""
    said = prediction.lower()
    return float(all(gold.lower() in said for gold in golds))


def release_correct(prediction: str, golds: Iterable[str]) -> float:
    """δ-mem's release: 1 where an acceptable answer is, or stands in, the reply or its first line.

    Texts are compared in lower case, articles and all but letters, digits and underscores turned into spaces.
    An answer 4 stands in a reply 43.
    """
    said, first = map(released, _whole_and_first(prediction))
    wanted = [released(gold) for gold in golds]
    return float(any(gold and (gold == first or gold in said) for gold in wanted))


def release_f1(prediction: str, golds: Iterable[str]) -> float:
    """δ-mem's release, of summaries: bag-of-tokens F1 of texts normalised as in `release_correct`.

    The best of the whole reply and its first line against any acceptable answer; yes and no are plain tokens.
    """
    said = [released(text).split() for text in _whole_and_first(prediction)]
    wanted = [released(gold).split() for gold in golds]
    return max((_token_f1(text, gold) for text in said for gold in wanted), default=0.0)


def _whole_and_first(prediction: str) -> tuple[str, str]:
    """A reply, and its first line."""
    return prediction, prediction.strip().split("\n", 1)[0]


def released(text: str) -> str:
    """A text as δ-mem's release compares it: lower case, articles and punctuation as spaces."""
    return " ".join(_SPACED.sub(" ", text.lower()).split())


def _best(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Each metric's maximum."""
    listed = list(found)
    return {name: max(item[name] for item in listed) for name in listed[0]}


def score(
    source: str, prediction: str, answers: str | Iterable[Any], catalogue: Catalogue | None = None
) -> dict[str, float]:
    """All metrics of one reply to a question of `source`, named as the official scorer names them.

    answers: acceptable texts; nested lists are flattened, as rows of one question have them. For movie
    recommendations they are the entities that should all be recommended; catalogue: their titles, by default
    from the benchmark's file where it is found. Texts are compared as they are and parsed, the better of both
    counting, or parsed alone where the official scorer does so. `flexible_exact_match` is ours and never
    below the official exact match. Raises UserError for an unknown source, a reply or answers that are no
    texts, no answers, or a catalogue that is not to be had.
    """
    if not isinstance(prediction, str):
        raise UserError(f"a reply to a question of {source} must be a text, not {prediction!r}")
    golds = list(_flat(answers, source))
    kind = source_of(source)
    if not golds:
        raise UserError(f"a question of {source} has no acceptable answer to score by")
    if kind.prefix == "recsys_":
        return (catalogue or load_catalogue()).recall(prediction, golds)
    parsed = parse_reply(prediction)
    texts = (parsed,) if kind.parsed_only else (prediction, parsed)
    made = _best(text_metrics(text, gold) for text in texts for gold in golds)
    if kind.prefix == "eventqa_":
        made["eventqa_recall"] = eventqa_recall(prediction, golds)
    meant = flexible(source, prediction, golds)
    return made if meant is None else made | {FLEXIBLE: max(meant, made["exact_match"])}


def _flat(answers: Any, source: str) -> Iterator[str]:
    """The texts of nested lists. Raises UserError for anything else in them."""
    if isinstance(answers, str):
        yield answers
    elif isinstance(answers, Iterable) and not isinstance(answers, (bytes, Mapping)):
        for answer in answers:
            yield from _flat(answer, source)
    else:
        raise UserError(f"acceptable answers to a question of {source} must be texts, not {answers!r}")
