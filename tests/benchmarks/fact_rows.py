"""Rows of facts as MemoryAgentBench has them, as small as can be."""

from __future__ import annotations

from typing import Any


def facts_row(source: str, facts: int, questions: int = 2) -> dict[str, Any]:
    """A row whose first facts are asked for, each of a slot of its own."""
    lines = [f"{number}. The capital of land{number} is town{number}.\n" for number in range(facts)]
    return {
        "context": "Here is a list of facts:\n" + "".join(lines),
        "questions": [f"What is the capital of land{number}?" for number in range(questions)],
        "answers": [[f"town{number}"] for number in range(questions)],
        "metadata": {
            "source": source,
            "qa_pair_ids": [f"{source}_no{number}" for number in range(questions)],
        },
    }
