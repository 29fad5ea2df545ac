"""BM25 retrieval: chunks ranked by the question's words, as many as the window holds put into the prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deltamem_eval.errors import UserError
from deltamem_eval.interface import (
    Answer,
    Chunk,
    Footprint,
    MemoryMethod,
    MethodSettings,
    Overhead,
    Query,
    Snapshot,
)
from deltamem_eval.methods.passages import fitting, passage_size
from deltamem_eval.methods.window import LEAST_WINDOW

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.overhead import ModelShape

_WORD = re.compile(r"\w+")
_LARGE = 2000  # passages above which bm25s's sparse index replaces rank-bm25's loops


class Bm25Rag(MemoryMethod):
    """Okapi BM25 (k1 1.5, b 0.75) over passages packed from the context's chunks.

    Options. passage_tokens: passage size in backbone tokens; 0 means 512, or a quarter of a window smaller
    than 2048; never more than the window. top_k: passages at most; 0 means as many as fit, where
    MemoryAgentBench's baseline has 10 of 4096 tokens. words: `split` (on white space, case kept, as that
    baseline does) or `plain` (lower-cased letters and digits). order: `context` puts passages in the prompt
    as they stood, `rank` best first. Passages that do not fit what is left of the window are passed over; a
    chunk longer than the window is cut into passages that can be shown. A passage lies in one session, and
    one that begins within a dated session is headed by its date. Okapi's inverse document frequency is
    rank-bm25's, which is 0 for a word in exactly half of the passages: among two or three passages it may
    rank a matching one last.
    """

    name: ClassVar[str] = "bm25-rag"
    summary: ClassVar[str] = "BM25 over packed passages, the best that fit the window in the prompt"
    least_window: ClassVar[int] = LEAST_WINDOW
    prompt_each: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "passage_tokens": 0,
        "top_k": 0,
        "words": "split",
        "order": "context",
    }

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.options import check_least, merge_options
        from deltamem_eval.methods.prompt import PromptBuilder
        from deltamem_eval.methods.window import window_size

        self.options = merge_options(self.name, self.defaults, settings.options)
        if self.options["words"] not in ("split", "plain"):
            raise UserError(f"option words of bm25-rag must be split or plain, not {self.options['words']!r}")
        if self.options["order"] not in ("context", "rank"):
            raise UserError(
                f"option order of bm25-rag must be context or rank, not {self.options['order']!r}"
            )
        check_least(self.name, self.options, {"passage_tokens": 0, "top_k": 0})
        self._backbone = backbone
        self._prompts = PromptBuilder(backbone)
        self._window = window_size(backbone, settings.window)
        asked = self.options["passage_tokens"] or passage_size(self._window)
        self._passage_tokens = min(asked, self._window) if self._window else asked
        self.reset()

    def reset(self) -> None:
        """Forget the context."""
        self._texts: list[str] = []
        self._sizes: list[int] = []
        self._session: str | None = None
        self._index: _Index | None = None

    def write(self, chunk: Chunk) -> None:
        """Add the chunk to the last passage, or begin a new one where that would grow too long or is of
        another session.
        """
        self._index = None
        for text in fitting(chunk.text, self._window, self._length):
            size, within = self._length(text), chunk.session == self._session
            if self._sizes and within and self._sizes[-1] + size <= self._passage_tokens:
                self._texts[-1] += text
                self._sizes[-1] += size
                continue
            shown = self._headed(text, chunk.session) if self._texts and within else text
            self._session = chunk.session
            self._texts.append(shown)
            self._sizes.append(self._length(shown))

    def _headed(self, text: str, session: str | None) -> str:
        """A passage from within a session, under its date where there is one and the window holds both."""
        headed = f"Conversation on {session}:\n{text}" if session else text
        return headed if self._length(headed) <= self._window else text

    def _length(self, text: str) -> int:
        return len(self._backbone.encode(text))

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Retrieve for each question and answer from what was found."""
        from deltamem_eval.methods.retrieved import answer_from_passages

        if not queries:
            return []
        found = [self._retrieve(query, min(self._window, self._prompts.room(query))) for query in queries]
        passages = [[self._texts[index] for index in chosen] for chosen in found]
        return answer_from_passages(self._backbone, self._prompts, queries, passages)

    def _retrieve(self, query: Query, budget: int) -> list[int]:
        """Indices of the passages to show."""
        if not self._texts or budget <= 0:
            return []
        ranked = self._settle().rank(self._split(str(query.metadata.get("question", query.prompt))))
        chosen: list[int] = []
        for index in ranked:
            if budget <= 0 or len(chosen) == (self.options["top_k"] or len(ranked)):
                break
            size = self._backbone.length(self._texts[index])
            if size <= budget:
                chosen.append(index)
                budget -= size
        return sorted(chosen) if self.options["order"] == "context" else chosen

    def _settle(self) -> _Index:
        """The index of everything written so far."""
        if self._index is None:
            self._index = _Index([self._split(text) for text in self._texts])
        return self._index

    def _split(self, text: str) -> list[str]:
        return text.split() if self.options["words"] == "split" else _WORD.findall(text.lower())

    def snapshot(self) -> Snapshot:
        """The passages; the index follows from them, and is made here so that no answer waits for it."""
        if self._window:
            self._settle()
        meta = {"texts": list(self._texts), "sizes": list(self._sizes), "session": self._session}
        return Snapshot({}, meta)

    def restore(self, snapshot: Snapshot) -> None:
        """Put the passages back; the index is kept where they are the same."""
        texts = list(snapshot.meta["texts"])
        if texts != self._texts:
            self._texts, self._index = texts, None
        self._sizes, self._session = list(snapshot.meta["sizes"]), snapshot.meta["session"]

    def footprint(self) -> Footprint:
        """Bytes of the passages, and of the index's postings at 12 bytes each (term, passage, count)."""
        text = sum(len(item.encode("utf-8")) for item in self._texts)
        postings = sum(len(set(self._split(item))) for item in self._texts)
        return Footprint(text=text, index=12 * postings)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Nothing is added."""
        return Overhead(0, 0)


class _Index:
    """Scores passages for a question's words; rank-bm25's Okapi, or bm25s where there are very many passages.

    The two differ in the inverse document frequency of words that stand in most passages (Okapi lets it go
    negative and replaces it by a quarter of the mean, bm25s keeps it positive).
    """

    def __init__(self, passages: list[list[str]]) -> None:
        self._count = len(passages)
        self._okapi: Any = None
        self._sparse: Any = None
        if not any(passages):
            return
        if self._count > _LARGE:
            import bm25s

            self._sparse = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
            self._sparse.index(passages, show_progress=False)
        else:
            from rank_bm25 import BM25Okapi

            self._okapi = BM25Okapi(passages)

    def rank(self, words: list[str]) -> list[int]:
        """Indices of all passages, best first; the later one first where scores are equal."""
        if self._okapi is not None:
            scores = self._okapi.get_scores(words)
        elif self._sparse is not None and words:
            scores = self._sparse.get_scores(words)
        else:
            scores = [0.0] * self._count
        return sorted(range(self._count), key=lambda index: (-float(scores[index]), -index))
