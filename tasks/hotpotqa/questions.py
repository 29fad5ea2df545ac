"""HotpotQA's JSON (distractor format) as checked questions.

The file is a list of objects with `_id`, `question`, `answer`, `context` ([[title, [sentences]], ...]) and
`supporting_facts` ([[title, sentence number from 0], ...]); `type` is optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.files import is_text, one_line, refuse


@dataclass(frozen=True)
class Question:
    """One question and its paragraphs.

    lines: the context, a sentence each with its end, the paragraph's title before its first. evidence: the
    lines of the supporting sentences. kind: bridge or comparison, None where the file does not tell.
    """

    id: str
    text: str
    gold: str
    kind: str | None
    lines: tuple[str, ...]
    evidence: tuple[str, ...]


def load_questions(value: Any, where: str) -> list[Question]:
    """The questions of a file's JSON value. Raises UserError naming `where`, row and field."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} is not HotpotQA's JSON: expected a list of questions, at least one")
    _check_paragraphs(value, where)
    made = [_question(row, f"{where} row {index}") for index, row in enumerate(value)]
    seen: set[str] = set()
    for question in made:
        if question.id in seen:
            raise UserError(f"{where}: _id {question.id} stands twice, but must name one question")
        seen.add(question.id)
    return made


def _check_paragraphs(rows: list[Any], where: str) -> None:
    """Raises UserError for a file of questions alone, which has nothing to remember."""
    if not any(isinstance(row, dict) and "context" in row for row in rows):
        raise UserError(
            f"{where} has no paragraphs (no row has a context): give a file in the distractor format, "
            "like hotpot_dev_distractor_v1.json"
        )


def _question(row: Any, where: str) -> Question:
    if not isinstance(row, dict):
        refuse(where, "the row", "an object", row)
    for field in ("_id", "question", "answer"):
        if not is_text(row.get(field)):
            refuse(where, field, "a text that is not empty", row.get(field))
    name = one_line(row["_id"])
    where = f"{where} ({name})"
    kind = row.get("type")
    if kind is not None and not is_text(kind):
        refuse(where, "type", "a text", kind)
    numbered = _lines(row.get("context"), where)
    return Question(
        id=name,
        text=one_line(row["question"]),
        gold=row["answer"].strip(),
        kind=kind,
        lines=tuple(line for lines in numbered for _, _, line in lines),
        evidence=_evidence(row, numbered, where),
    )


def _lines(context: Any, where: str) -> list[list[tuple[str, int, str]]]:
    """For each paragraph its lines as (title, sentence number, text); empty sentences are left out."""
    if not isinstance(context, list):
        refuse(where, "context", "a list of [title, [sentences]]", context)
    made = [_paragraph(item, f"{where} context[{index}]") for index, item in enumerate(context)]
    if not any(made):
        raise UserError(f"{where}: context holds no sentence")
    return made


def _paragraph(item: Any, where: str) -> list[tuple[str, int, str]]:
    if not isinstance(item, list) or len(item) != 2:
        refuse(where, "the paragraph", "a pair [title, [sentences]]", item)
    title, sentences = item
    if not is_text(title):
        refuse(where, "title", "a text that is not empty", title)
    if not isinstance(sentences, list) or not all(isinstance(sentence, str) for sentence in sentences):
        refuse(where, "sentences", "a list of texts", sentences)
    kept = [(number, one_line(text)) for number, text in enumerate(sentences) if text.strip()]
    heads = {kept[0][0]: f"{one_line(title)}: "} if kept else {}
    return [(title, number, f"{heads.get(number, '')}{text}\n") for number, text in kept]


def _evidence(
    row: Mapping[str, Any], numbered: list[list[tuple[str, int, str]]], where: str
) -> tuple[str, ...]:
    """The supporting sentences' lines, once each; facts without a sentence are left out."""
    facts = row.get("supporting_facts")
    if not isinstance(facts, list) or not all(_is_fact(fact) for fact in facts):
        refuse(where, "supporting_facts", "a list of [title, sentence number]", facts)
    found: dict[tuple[str, int], str] = {}
    for title, number, line in (entry for lines in numbered for entry in lines):
        found.setdefault((title, number), line)
    wanted = dict.fromkeys((title, number) for title, number in facts)
    return tuple(found[key] for key in wanted if key in found)


def _is_fact(fact: Any) -> bool:
    return isinstance(fact, list) and len(fact) == 2 and isinstance(fact[0], str) and type(fact[1]) is int
