"""LoCoMo's JSON as checked dialogues.

The file is a list of samples. A sample holds `sample_id`, `conversation` (session_N: list of turns, and
session_N_date_time: text) and `qa` (list of questions). Everything else in it is left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.files import is_text, one_line, refuse

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
ADVERSARIAL = 5

TurnId = tuple[int, int]

_EARLY = ("january", "february", "march", "april", "may", "june")
_MONTHS = (*_EARLY, "july", "august", "september", "october", "november", "december")
_DATE = re.compile(r"(\d{1,2}):(\d{2})\s*([ap])m\s+on\s+(\d{1,2})\s+([a-z]+),?\s+(\d{4})", re.IGNORECASE)
_TURN = re.compile(r"\bD:?(\d{1,6}):(\d{1,6})\b", re.ASCII)
_SESSION = re.compile(r"session_(\d{1,6})", re.ASCII)


@dataclass(frozen=True)
class Turn:
    """One utterance. text: the line that stands for it in the context, with its end."""

    id: TurnId
    text: str


@dataclass(frozen=True)
class Session:
    """One sitting of a dialogue. stated: its date and time as the data word them."""

    number: int
    date: datetime
    stated: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Question:
    """One question. index: its place among all of the dialogue's. gold: None for an adversarial question.

    evidence: the turns that answer it, those that the dialogue has, in order and once each.
    """

    index: int
    text: str
    category: int
    gold: str | None
    evidence: tuple[TurnId, ...]


@dataclass(frozen=True)
class Dialogue:
    """Sessions that have turns, by number, and every question."""

    id: str
    sessions: tuple[Session, ...]
    questions: tuple[Question, ...]


def parse_date(text: str) -> datetime:
    """'1:56 pm on 8 May, 2023' as a date and time, without a zone. Raises ValueError for anything else."""
    found = _DATE.fullmatch(text.strip())
    if found is None or found[5].lower() not in _MONTHS or not 1 <= int(found[1]) <= 12:
        raise ValueError(f"{text!r} is not a date like '1:56 pm on 8 May, 2023'")
    hour = int(found[1]) % 12 + (12 if found[3].lower() == "p" else 0)
    month = _MONTHS.index(found[5].lower()) + 1
    return datetime(int(found[6]), month, int(found[4]), hour, int(found[2]))


def parse_turn_ids(entries: list[Any]) -> list[TurnId]:
    """The turn ids in a list of evidence, in order and once each.

    Several may stand in one text ('D8:6; D9:17'), numbers may be padded (D30:05) and a colon may follow the
    D (D:11:26). What names no turn is left out.
    """
    found = [match for entry in entries if isinstance(entry, str) for match in _TURN.findall(entry)]
    return list(dict.fromkeys((int(session), int(turn)) for session, turn in found))


def load_dialogues(value: Any, where: str) -> list[Dialogue]:
    """The dialogues of a file's JSON value. Raises UserError naming `where`, sample and field."""
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} is not LoCoMo's JSON: expected a list of dialogues, at least one")
    made = [_dialogue(sample, f"{where} sample {index}") for index, sample in enumerate(value)]
    seen: set[str] = set()
    for dialogue in made:
        if dialogue.id in seen:
            raise UserError(f"{where}: sample_id {dialogue.id} stands twice, but must name one dialogue")
        seen.add(dialogue.id)
    return made


def _dialogue(sample: Any, where: str) -> Dialogue:
    if not isinstance(sample, dict):
        refuse(where, "the sample", "an object", sample)
    name = sample.get("sample_id")
    if not is_text(name):
        refuse(where, "sample_id", "a text that is not empty", name)
    name = one_line(name)
    where = f"{where} ({name})"
    conversation, asked = sample.get("conversation"), sample.get("qa")
    if not isinstance(conversation, dict):
        refuse(where, "conversation", "an object", conversation)
    if not isinstance(asked, list):
        refuse(where, "qa", "a list of questions", asked)
    sessions = _sessions(conversation, where)
    known = {turn.id for session in sessions for turn in session.turns}
    questions = tuple(
        _question(item, index, known, f"{where} qa[{index}]") for index, item in enumerate(asked)
    )
    return Dialogue(name, sessions, questions)


def _sessions(conversation: Mapping[str, Any], where: str) -> tuple[Session, ...]:
    """Sessions in the order of their numbers, without those that have a date and no dialogue."""
    matches = [match for match in map(_SESSION.fullmatch, conversation) if match]
    named = sorted((int(match[1]), match[0]) for match in matches)
    made = [_session(conversation, number, name, where) for number, name in named if conversation[name] != []]
    if not made:
        raise UserError(f"{where}: conversation holds no session with turns")
    (id_, count), *_ = Counter(turn.id for session in made for turn in session.turns).most_common(1)
    if count > 1:
        raise UserError(f"{where}: dia_id D{id_[0]}:{id_[1]} stands twice, but must name one turn")
    return tuple(made)


def _session(conversation: Mapping[str, Any], number: int, name: str, where: str) -> Session:
    turns, stated = conversation[name], conversation.get(f"{name}_date_time")
    if not isinstance(turns, list):
        refuse(where, name, "a list of turns", turns)
    if not isinstance(stated, str):
        refuse(where, f"{name}_date_time", "a text like '1:56 pm on 8 May, 2023'", stated)
    try:
        date = parse_date(stated)
    except ValueError as error:
        raise UserError(f"{where}: {name}_date_time: {error}") from None
    made = tuple(_turn(turn, f"{where} {name}[{index}]") for index, turn in enumerate(turns))
    return Session(number, date, one_line(stated), made)


def _turn(turn: Any, where: str) -> Turn:
    if not isinstance(turn, dict):
        refuse(where, "the turn", "an object", turn)
    for field in ("speaker", "dia_id"):
        if not is_text(turn.get(field)):
            refuse(where, field, "a text that is not empty", turn.get(field))
    said, caption = turn.get("text"), turn.get("blip_caption", "")
    if not isinstance(said, str):
        refuse(where, "text", "a text", said)
    if not isinstance(caption, str):
        refuse(where, "blip_caption", "a text", caption)
    found = _TURN.fullmatch(turn["dia_id"].strip())
    if found is None:
        refuse(where, "dia_id", "a text like D1:3", turn["dia_id"])
    image = f" [image: {one_line(caption)}]" if caption.strip() else ""
    text = f"{one_line(turn['speaker'])}: {one_line(said)}{image}"
    return Turn((int(found[1]), int(found[2])), f"{text}\n")


def _question(item: Any, index: int, known: set[TurnId], where: str) -> Question:
    if not isinstance(item, dict):
        refuse(where, "the question", "an object", item)
    text, category, evidence = item.get("question"), item.get("category"), item.get("evidence", [])
    if not is_text(text):
        refuse(where, "question", "a text that is not empty", text)
    if type(category) is not int or category not in CATEGORIES:
        refuse(where, "category", "a number from 1 to 5", category)
    if not isinstance(evidence, list):
        refuse(where, "evidence", "a list of turn ids", evidence)
    found = tuple(turn for turn in parse_turn_ids(evidence) if turn in known)
    return Question(index, one_line(text), category, _gold(item, category, where), found)


def _gold(item: Mapping[str, Any], category: int, where: str) -> str | None:
    """The answer; a number is taken as its digits, as in a year. An adversarial question has none."""
    if category == ADVERSARIAL:
        return None
    answer = item.get("answer")
    if type(answer) in (int, float):
        return str(answer)
    if not is_text(answer):
        refuse(where, "answer", "a text that is not empty or a number", answer)
    return str(answer).strip()
