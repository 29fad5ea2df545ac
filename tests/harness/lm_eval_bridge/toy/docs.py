"""Documents of the toy tasks, from the file beside this one; the last is too long for a small model."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset


def load(**_: Any) -> dict[str, Dataset]:
    rows = json.loads((Path(__file__).parent / "docs.json").read_text(encoding="utf-8"))
    long = "".join(f"Item {number} lies in drawer {number * 7 % 31}.\n" for number in range(60))
    rows.append({"context": long, "question": "Which drawer?", "choices": ["3", "drawer 7"], "answer": 1})
    for row in rows:
        row["text"] = f"{row['context']}\n\n{row['question']} {row['choices'][row['answer']]}"
    return {"test": Dataset.from_list(rows)}


def lengths(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    return {"characters": float(len(results[0]) + 100)}


def answer(doc: dict[str, Any]) -> int:
    return int(doc["answer"])


def sentences(doc: dict[str, Any]) -> list[str]:
    return [f"{doc['context']}\n\n{doc['question']} It is {choice}," for choice in doc["choices"]]
