"""How a question of each source is put, in our own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltamem_eval.tasks.memory_agent_bench.sources import Source

PROMPT_VERSION = 1

_WORDING = {
    "ruler_qa": "Use the documents above to answer in a few words.\nQuestion: {question}\nAnswer:",
    "longmemeval_": "Use the past conversations above to answer in a few words.\n{question}\nAnswer:",
    "eventqa_": "Go by the book above.\n{question}\nThe event that comes next:",
    "icl_": "Give the number of the label that fits, as in the examples above.\n{question}\nlabel:",
    "recsys_": "Recommend 20 movies for this conversation, as a numbered list of titles.\n{question}\n"
    "Recommendations:",
    "infbench_": "{question}\nSummary of the book:",
    "qasper": "Use the paper above to answer.\nQuestion: {question}\nAnswer:",
    "detective_": "Go by the story above.\n{question}",
    "factconsolidation_": "Answer from the numbered facts above alone, even against what you know. Where two "
    "facts contradict each other, the one with the larger number holds. Give the answer and nothing else.\n"
    "Question: {question}\nAnswer:",
}


def wrap(source: Source, question: str) -> str:
    """The prompt of a question. Embedded sources bring theirs complete."""
    return _WORDING.get(source.prefix, "{question}").replace("{question}", question)
