"""LoCoMo as a task: one episode a dialogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from deltamem_eval.errors import UnavailableError, UserError
from deltamem_eval.interface import Chunk, Episode, Query, Task
from deltamem_eval.tasks.files import read_json
from deltamem_eval.tasks.locomo.dialogues import CATEGORIES, Dialogue, Question, Session, load_dialogues
from deltamem_eval.tasks.locomo.metrics import score
from deltamem_eval.tasks.locomo.prompts import PROMPT_VERSION, UNKNOWN, wrap

CONTEXTS = ("whole", "sessions")
_NEW_TOKENS = 50
_NUMBERS = {name: number for number, name in CATEGORIES.items()}


class LocomoTask(Task):
    """Dialogues of LoCoMo's file. The seed changes nothing.

    `accuracy` is what LoCoMo reports: an F1 by the rules of each category, in category 5 a check of phrases.

    categories: the numbers of those asked, with commas between: 1 multi-hop, 2 temporal, 3 open-domain,
    4 single-hop, 5 adversarial. Category 5 can only be compared with itself: its prompts offer the answer
    that is right, and the score looks for that phrase.

    context: `whole` is the dialogue. `sessions` is a reduced, easier setting of ours: of each dialogue
    only the sessions in which evidence of any asked question stands, so that the others cannot distract.
    Its scores must not stand beside those of `whole`. Of locomo10.json's 272 sessions it leaves out none
    where categories 1 to 4 are asked together, 33 for category 1 alone, 80 for 2, 10 for 4 and 68 for 5; for
    3, which one dialogue lacks, 139 of 253. Context recovery, where the question stands alone in the prompt
    and the memory must bring back the rest, is a window of 0, not this.
    """

    name: ClassVar[str] = "locomo"
    summary: ClassVar[str] = (
        "LoCoMo: questions on long dialogues of dated sessions (--task-option path=locomo10.json)"
    )

    seeded: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {"path": "", "categories": "1,2,3,4", "context": "whole"}

    def __init__(self, path: str | Path = "", categories: str = "1,2,3,4", context: str = "whole") -> None:
        if not path:
            raise UnavailableError("task locomo needs its file: give --task-option path=locomo10.json")
        self._categories = parse_categories(categories)
        if context not in CONTEXTS:
            raise UserError(f"option context of locomo must be whole or sessions, not {context!r}")
        self._context = context
        value, self._sha256 = read_json(Path(path))
        self._dialogues = load_dialogues(value, str(path))
        if not any(self._asked(dialogue) for dialogue in self._dialogues):
            raise UserError(f"{path} holds no question of categories {_listed(self._categories)}")

    def _asked(self, dialogue: Dialogue) -> list[Question]:
        return [question for question in dialogue.questions if question.category in self._categories]

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """The dialogues in the file's order, at most `limit`; those without an asked question are left out.

        Raises UserError where `sessions` is asked for and a dialogue's questions name no evidence.
        """
        asked = [(dialogue, self._asked(dialogue)) for dialogue in self._dialogues]
        for dialogue, questions in [pair for pair in asked if pair[1]][:limit]:
            yield self._episode(dialogue, questions)

    def _episode(self, dialogue: Dialogue, questions: Sequence[Question]) -> Episode:
        sessions = dialogue.sessions
        if self._context == "sessions":
            sessions = _needed(dialogue, questions)
        lines = {turn.id: turn.text for session in sessions for turn in session.turns}
        queries = tuple(_query(dialogue.id, question, lines) for question in questions)
        return Episode(dialogue.id, "locomo", "accurate-retrieval", _chunks(sessions), queries)

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """accuracy, f1 and exact_match of the answer; with several targets the best of each."""
        category = _NUMBERS[query.metadata["question_types"]]
        found = [score(category, answer, target) for target in query.targets]
        return {name: max(item[name] for item in found) for name in found[0]}

    def identity(self) -> dict[str, Any]:
        """The file's SHA-256, the categories, the context's extent and the version of the wording."""
        return {
            "sha256": self._sha256,
            "categories": list(self._categories),
            "context": self._context,
            "prompts": PROMPT_VERSION,
        }


def parse_categories(text: str) -> tuple[int, ...]:
    """'4, 1' as (1, 4), sorted and without repeats. Raises UserError for what is not among 1 to 5."""
    parts = [part.strip() for part in str(text).split(",")]
    wrong = [part for part in parts if part not in map(str, CATEGORIES)]
    if wrong:
        raise UserError(
            f"option categories of locomo takes numbers from 1 to 5 with commas between, not {wrong[0]!r}"
        )
    return tuple(sorted({int(part) for part in parts}))


def _listed(categories: Sequence[int]) -> str:
    return ",".join(map(str, categories))


def _needed(dialogue: Dialogue, questions: Sequence[Question]) -> tuple[Session, ...]:
    """The sessions that hold the evidence of any of the questions."""
    wanted = {turn for question in questions for turn in question.evidence}
    kept = [session for session in dialogue.sessions if any(turn.id in wanted for turn in session.turns)]
    if not kept:
        raise UserError(f"dialogue {dialogue.id}: no asked question names its evidence: use context=whole")
    return tuple(kept)


def _chunks(sessions: Sequence[Session]) -> tuple[Chunk, ...]:
    """For each session a line with its date and one for each turn, under the date as ISO 8601."""
    lines = [
        (text, session.date.isoformat(timespec="minutes"))
        for session in sessions
        for text in (f"Conversation at {session.stated}:\n", *(turn.text for turn in session.turns))
    ]
    return tuple(Chunk(text, index, session=date) for index, (text, date) in enumerate(lines))


def _query(dialogue: str, question: Question, lines: Mapping[tuple[int, int], str]) -> Query:
    return Query(
        id=f"{dialogue}/q{question.index:03d}",
        prompt=wrap(question.category, question.text),
        targets=(UNKNOWN if question.gold is None else question.gold,),
        max_new_tokens=_NEW_TOKENS,
        metadata={
            "question": question.text,
            "question_types": CATEGORIES[question.category],
            "evidence": [lines[turn] for turn in question.evidence],
        },
    )
