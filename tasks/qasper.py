"""QASPER (Dasigi et al. 2021) as episodes: papers as contexts, for training memories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.files import read_json


def rows_from_qasper(file: Path) -> list[dict[str, Any]]:
    """One row a paper that has an answerable question, in MemoryAgentBench's schema.

    Raises UserError for a file that cannot be read or is not QASPER's JSON.
    """
    papers, _ = read_json(file)
    if not isinstance(papers, dict):
        raise UserError(f"{file} is not QASPER's JSON: expected an object of papers by id")
    rows = []
    for key, paper in papers.items():
        try:
            row = _row(str(key), paper)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{file}: paper {key} is not in QASPER's format ({error!r})") from None
        if row["questions"]:
            rows.append(row)
    if not rows:
        raise UserError(f"{file} holds no paper with an answerable question")
    return rows


def _row(key: str, paper: Mapping[str, Any]) -> dict[str, Any]:
    parts = [paper["title"], paper["abstract"]]
    for section in paper["full_text"]:
        parts += [section["section_name"] or "", *section["paragraphs"]]
    asked = [(item, _golds(item)) for item in paper["qas"]]
    kept = [(item, golds) for item, golds in asked if golds]
    return {
        "context": "".join(f"{part.strip()}\n" for part in parts if part and part.strip()),
        "questions": [str(item["question"]) for item, _ in kept],
        "answers": [golds for _, golds in kept],
        "metadata": {
            "source": "qasper",
            "qa_pair_ids": [f"{key}_{item['question_id']}" for item, _ in kept],
        },
    }


def _golds(item: Mapping[str, Any]) -> list[str]:
    """The answers annotators gave, without repeats; none where the paper does not say."""
    found = []
    for entry in item["answers"]:
        answer = entry["answer"]
        if answer["unanswerable"]:
            continue
        if answer["yes_no"] is not None:
            found.append("Yes" if answer["yes_no"] else "No")
        elif answer["extractive_spans"]:
            found.append(", ".join(answer["extractive_spans"]))
        elif answer["free_form_answer"].strip():
            found.append(answer["free_form_answer"].strip())
    return list(dict.fromkeys(found))
