"""HotpotQA's distractor setting as a task: one episode a question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from deltamem_eval.errors import UnavailableError
from deltamem_eval.interface import Chunk, Episode, Query, Task
from deltamem_eval.tasks.files import read_json
from deltamem_eval.tasks.hotpotqa.questions import Question, load_questions
from deltamem_eval.tasks.memory_agent_bench.metrics import exact_match, f1, release_f1, released

PROMPT_VERSION = 1
_NEW_TOKENS = 32
_WORDING = "Use the paragraphs above to answer in a few words.\nQuestion: {question}\nAnswer:"


class HotpotQaTask(Task):
    """Questions that take two of ten paragraphs to answer. The seed changes nothing.

    `accuracy` is exact match. The context has a sentence a line, so that no two run together where a method
    keeps only some.
    """

    name: ClassVar[str] = "hotpotqa"
    summary: ClassVar[str] = (
        "HotpotQA, distractor setting: two-hop questions on ten paragraphs "
        "(--task-option path=hotpot_dev_distractor_v1.json)"
    )

    seeded: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {"path": ""}

    def __init__(self, path: str | Path = "") -> None:
        if not path:
            raise UnavailableError(
                "task hotpotqa needs its file: give --task-option path=hotpot_dev_distractor_v1.json"
            )
        value, self._sha256 = read_json(Path(path))
        self._questions = load_questions(value, str(path))

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        """The questions in the file's order, each with its paragraphs, at most `limit`."""
        yield from map(_episode, self._questions[:limit])

    def score(self, query: Query, answer: str) -> dict[str, float]:
        """Exact match and F1 of the answer's first line that holds anything, the best over the targets.

        By HotpotQA's official rules: texts are normalised, and yes and no match only themselves. Those that
        begin with `release_` are by the rules of δ-mem's release, whose paper's numbers they are: punctuation
        and articles become spaces, and yes and no are plain tokens.
        """
        line = answer.strip().split("\n", 1)[0]
        exact = max(exact_match(line, target) for target in query.targets)
        shared = max(f1(line, target) for target in query.targets)
        same = float(released(line) in map(released, query.targets))
        return {
            "accuracy": exact,
            "exact_match": exact,
            "f1": shared,
            "release_exact_match": same,
            "release_f1": max(same, release_f1(line, query.targets)),  # 1 also where neither has a token
        }

    def identity(self) -> dict[str, Any]:
        """The file's SHA-256 and the version of the wording."""
        return {"sha256": self._sha256, "prompts": PROMPT_VERSION}


def _episode(question: Question) -> Episode:
    metadata: dict[str, Any] = {"question": question.text, "evidence": list(question.evidence)}
    if question.kind is not None:
        metadata["question_types"] = question.kind
    query = Query(
        id=f"{question.id}/q000",
        prompt=_WORDING.replace("{question}", question.text),
        targets=(question.gold,),
        max_new_tokens=_NEW_TOKENS,
        metadata=metadata,
    )
    chunks = tuple(Chunk(line, index) for index, line in enumerate(question.lines))
    return Episode(question.id, "hotpotqa", "accurate-retrieval", chunks, (query,))
