"""How a question of each source is put, in our own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltamem_eval.tasks.memory_agent_bench.sources import Source

PROMPT_VERSION = 1  # of the wordings below

_WORDING = {
    "ruler_qa": "Use the documents above to answer in a few words.\nQuestion: {question}\nAnswer:",
    "longmemeval_": "Use the past conversations above to answer in a few words.\n{question}\nAnswer:",
    "eventqa_": "Go by the book above.\n{question}\nThe event that comes next:",
    "icl_": "Give the number of the label that fits, as in the examples above.\n{question}\nlabel:",
    "recsys_": "Recommend 20 movies for this conversation, as a numbered list of titles.\n{question}\n"
    "Recommendations:",
    "infbench_sum": "{question}\nSummary of the book:",
    "qasper": "Use the paper above to answer.\nQuestion: {question}\nAnswer:",
    "detective_": "Go by the story above.\n{question}",
    "factconsolidation_": "Answer from the numbered facts above alone, even against what you know. Where two "
    "facts contradict each other, the one with the larger number holds. Give the answer and nothing else.\n"
    "Question: {question}\nAnswer:",
}


_RELEASE = (
    "Go by the memory above alone. Give a short answer, a name or a few words where that is enough; if the "
    "memory does not tell, reply exactly: I don't know\nQuestion: {question}\nAnswer:"
)


def wrap(source: Source, question: str, protocol: str = "isolated") -> str:
    """The prompt of a question. Embedded sources bring theirs complete; δ-mem's release has one for all."""
    wording = _RELEASE if protocol == "delta-mem-release" else _WORDING.get(source.prefix, "{question}")
    return wording.replace("{question}", question)
