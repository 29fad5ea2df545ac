"""How LoCoMo's questions are put, in our own words."""

from __future__ import annotations

from deltamem_eval.tasks.locomo.dialogues import ADVERSARIAL

PROMPT_VERSION = 1
UNKNOWN = "Not mentioned in the conversation"

_OPENING = "Use the conversation above to answer in a few words, with its own words where they fit."
_TEMPORAL = 2
_MORE = {
    _TEMPORAL: " Answer with a date, worked out from the dates of the conversation.",
    ADVERSARIAL: f' If the conversation does not tell, answer "{UNKNOWN}".',
}


def wrap(category: int, question: str) -> str:
    """The prompt of a question. The offer to say that nothing is known stands in category 5 alone."""
    return f"{_OPENING}{_MORE.get(category, '')}\nQuestion: {question}\nAnswer:"
