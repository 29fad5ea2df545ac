"""Multiple-choice documents of lm-eval: their choices as metadata of a query, their targets as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deltamem_eval.errors import UserError

OUTPUT_TYPE = "multiple_choice"


def check(task: Any) -> None:
    """Raises UserError for a multiple-choice task that compares with choices out of their context."""
    if task.OUTPUT_TYPE == OUTPUT_TYPE and "acc_mutual_info" in task._metric_fn_list:
        raise UserError(
            f"lm-eval task {task.config.task} asks for acc_mutual_info, the likelihoods of choices without "
            "their question, which is not to be had here: take that metric out of its metric_list"
        )


def shared_context(task: Any, contexts: Sequence[str]) -> str:
    """The context of a document, which all its requests must have. Raises UserError where they do not."""
    if len(set(contexts)) > 1:
        raise UserError(
            f"lm-eval task {task.config.task}: the choices of a document do not share a context: give "
            "--task-option split=none"
        )
    return contexts[0]


def metadata(task: Any, instances: Sequence[Any], prompts: Sequence[str]) -> dict[str, Any]:
    """What a query holds of its choices. prompts: of each of a document's instances.

    A task whose choices stand in the prompts (winogrande's sentences) has the requests beside them.
    """
    continuations = [instance.args[1] for instance in instances]
    found: dict[str, Any] = {"choices": continuations, "chance": 1 / len(continuations)}
    if not task.multiple_input:
        return found
    requests = [list(pair) for pair in zip(prompts, continuations, strict=True)]
    return {**found, "choices": list(task.doc_to_choice(instances[0].doc)), "choice_requests": requests}


def targets(task: Any, doc: Mapping[str, Any]) -> tuple[str, ...]:
    """The right choices as texts, without white space around them; none for a label that is no choice's."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    texts = [str(choice) for choice in task.doc_to_choice(doc)]
    named = [
        texts[label] if isinstance(label, int) and 0 <= label < len(texts) else label
        for label in (gold if isinstance(gold, list) else [gold])
    ]
    return tuple(label.strip() for label in named if label in texts)
