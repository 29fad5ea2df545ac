"""From an answer to the line that is stored of it: scores, hashes, the evidence its prompt held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from deltamem_eval.answering import Answered
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json, hash_text
from deltamem_eval.interface import Answer, Episode, Query, Task
from deltamem_eval.store import Sample

_EXTRAS = (
    "associations",
    "updates",
    "distance",
    "question_types",
    "context_tokens",
    "context_cut",
    "tokens_cut",
    "gold_survives",
    "gold_fits",
)


def make_sample(
    task: Task, episode: Episode, query: Query, answer: Answer, batch: Answered, device: str
) -> Sample:
    """The sample of one answer of a batch. device: the line that names where it was answered."""
    metadata = query.metadata
    metrics, broken = _scored(task, query, answer)
    return Sample(
        episode=episode.id,
        query=query.id,
        source=episode.source,
        category=episode.category,
        cluster=hash_text(episode.context or query.id),  # questions without a context share none
        status="failed" if broken else answer.status,
        error=broken or answer.error,
        answer=answer.text,
        targets=list(query.targets),
        metrics=metrics,
        prompt_hash=answer.prompt_hash,
        target_hash=hash_json(list(query.targets)),
        prompt_tokens=answer.prompt_tokens,
        new_tokens=answer.new_tokens,
        context_tokens=answer.context_tokens,
        written_tokens=batch.written_tokens,
        evidence=_share(metadata.get("evidence"), answer.visible),
        gold_visible=_visible(query.targets, answer.visible),
        chance=metadata.get("chance"),
        selection=metadata.get("selection"),
        write_seconds=batch.write_seconds,
        answer_seconds=batch.seconds,
        decode_seconds=batch.decode_seconds,
        peak_bytes=batch.peaks,
        memory_bytes=batch.held or {},
        device=device,
        extras={name: metadata[name] for name in _EXTRAS if name in metadata} | _likelihoods(answer),
    )


def _likelihoods(answer: Answer) -> dict[str, list[float]]:
    """The natural log-probabilities of a question's choices; nothing where it has none."""
    return {"choice_logprobs": [total for total, _ in answer.choices]} if answer.choices else {}


def _scored(task: Task, query: Query, answer: Answer) -> tuple[dict[str, float], str | None]:
    """The answer's metrics, none where it failed or cannot be scored, and why it cannot.

    Whatever the task calls its primary metric, it stands as `accuracy` too: reports read that alone.
    """
    if answer.status != "ok":
        return {}, None
    try:
        metrics = task.score_answer(query, answer)
        broken = _not_numbers(metrics) or _not_a_share(metrics, task.primary)
    except UserError:
        raise
    except Exception as error:  # a plug-in's scorer may raise anything; one answer must not end the run
        return {}, f"the task's score raised {type(error).__name__}: {error}"
    return ({} if broken else {**metrics, "accuracy": metrics[task.primary]}), broken


def _not_numbers(metrics: Mapping[str, float]) -> str | None:
    """What is wrong with metrics that are no finite numbers; None where all are."""
    wrong = [f"{name} is {value}" for name, value in metrics.items() if not isfinite(value)]
    return f"the task's score is no number: {', '.join(wrong)}" if wrong else None


def _not_a_share(metrics: Mapping[str, float], primary: str) -> str | None:
    """What is wrong with the metric that tables show; None where it is in 0..1."""
    if primary not in metrics:
        return f"the task's score lacks its primary metric {primary}: it has {', '.join(metrics) or 'none'}"
    value = metrics[primary]
    return None if 0 <= value <= 1 else f"the task's score is outside 0..1: {primary} is {value:g}"


def _share(evidence: list[str] | None, visible: str | None) -> float | None:
    """Share of the passages that stand in the visible text; None where either is not there."""
    if not evidence or visible is None:
        return None
    return sum(passage.strip() in visible for passage in evidence) / len(evidence)


def _visible(targets: Sequence[str], visible: str | None) -> float | None:
    return None if visible is None else float(any(target in visible for target in targets))
