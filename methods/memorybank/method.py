"""MemoryBank behind the harness's interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import accumulate
from pathlib import Path
from random import Random
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
from deltamem_eval.methods.passages import fitting
from deltamem_eval.methods.window import LEAST_WINDOW

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.methods.memorybank.bank import Bank, Piece
    from deltamem_eval.methods.memorybank.summaries import Summaries
    from deltamem_eval.overhead import ModelShape
    from torch import Tensor

RECALLED = 2  # pieces that a new turn recalls, where no number is asked for
_CHOICES = {"summaries": ("backbone", "none"), "curve": ("paper", "code")}
_LEAST = {"top_k": 0, "neighbour_chars": 0, "summary_tokens": 1, "session_tokens": 1}


class MemoryBank(MemoryMethod):
    """Turns and daily summaries, the nearest ones by embedding put into the prompt by date.

    A turn is one chunk, or a passage of one that the window cannot hold. Its day is its session, which
    stands above it in the prompt and before it where it is embedded; where a task has none, a chunk is a
    day, short ones (lines) together until they have session_tokens. Options. top_k: pieces retrieved; 0
    means the nearest ones until one does not fit the window, where the authors have 2. neighbour_chars: a
    hit grows by its neighbours of the same day up to that length. summaries: `backbone` writes daily
    summaries, a history and a portrait; `none` leaves them out. embedder: `backbone` (the mean of its last
    states, where the authors have all-MiniLM-L6-v2), or a sentence-transformers model's name. forgetting:
    each new day drops what was not recalled, with probability 1 - R, the days' summaries too; curve:
    R = exp(-t/S) of the `paper`, or exp(-tS/5) of the authors' `code`. A new turn recalls the RECALLED
    pieces it resembles most.

    With real dates as sessions (ISO 8601), days are counted between them; else every session is a day.
    """

    name: ClassVar[str] = "memorybank"
    summary: ClassVar[str] = "dated turns and summaries, the nearest by embedding in the prompt"
    least_window: ClassVar[int] = LEAST_WINDOW
    prompt_each: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "top_k": 0,
        "neighbour_chars": 200,
        "summaries": "backbone",
        "summary_tokens": 400,
        "embedder": "backbone",
        "forgetting": False,
        "curve": "paper",
        "session_tokens": 512,
    }

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.memorybank.embed import make_embedder
        from deltamem_eval.methods.memorybank.summaries import Summariser
        from deltamem_eval.methods.options import check_least, merge_options
        from deltamem_eval.methods.prompt import PromptBuilder
        from deltamem_eval.methods.window import window_size

        self.options = merge_options(self.name, self.defaults, settings.options)
        for name, allowed in _CHOICES.items():
            if self.options[name] not in allowed:
                raise UserError(
                    f"option {name} of memorybank must be {' or '.join(allowed)}, not {self.options[name]!r}"
                )
        check_least(self.name, self.options, _LEAST)
        self._backbone = backbone
        self._seed = settings.seed
        self._prompts = PromptBuilder(backbone)
        self._window = window_size(backbone, settings.window)
        self._embed = make_embedder(self.options["embedder"], backbone)
        self._summarise = Summariser(backbone, self.options["summary_tokens"])
        self.reset()

    def reset(self) -> None:
        """Forget the context."""
        self._turns: list[tuple[str, str | None, int]] = []
        self._settled: tuple[Bank, Summaries] | None = None
        self._lengths: dict[str, int] = {}

    def write(self, chunk: Chunk) -> None:
        """Append a turn."""
        for text in fitting(chunk.text, self._window, self._backbone.length):
            self._turns.append((text, chunk.session, chunk.index))
        self._settled = None

    def _days(self) -> list[int]:
        """The day of every turn, never falling: a session that is gone back to goes on with the last day."""
        if all(session is None for _, session, _ in self._turns):
            return self._chunk_days()
        sessions = list(dict.fromkeys(str(session) for _, session, _ in self._turns))
        numbers = _calendar(sessions) or {session: index for index, session in enumerate(sessions)}
        return list(accumulate((numbers[str(session)] for _, session, _ in self._turns), max))

    def _chunk_days(self) -> list[int]:
        """The day of every turn where no chunk has a session: a chunk begins one when the last is full."""
        days, day, held, last = [], 0, 0, None
        for text, _, index in self._turns:
            if index != last and held >= self.options["session_tokens"]:
                day, held = day + 1, 0
            held, last = held + self._backbone.length(text), index
            days.append(day)
        return days

    def _settle(self) -> tuple[Bank, Summaries]:
        """The bank of everything written so far: a function of the turns and the seed alone."""
        from deltamem_eval.methods.memorybank.bank import TURN, Bank, Piece
        from deltamem_eval.methods.memorybank.summaries import EMPTY

        if self._settled is not None:
            return self._settled
        bank, days = Bank(), self._days()
        pieces = [
            Piece(TURN, day, text, recalled=day, dated=session or "")
            for (text, session, _), day in zip(self._turns, days, strict=True)
        ]
        vectors = self._embed([piece.heading + piece.text for piece in pieces])
        made = EMPTY
        if self.options["summaries"] == "backbone" and self._turns:
            made = self._summarise(self._texts_by_day(days))
        summaries = self._embedded_summaries(made, {piece.day: piece.dated for piece in pieces})
        rng = Random(f"forgetting/{self._seed}")
        for number, (piece, day) in enumerate(zip(pieces, days, strict=True)):
            if number and day != days[number - 1]:
                bank.add_all(summaries.pop(days[number - 1], ()))
                if self.options["forgetting"]:
                    bank.forget(day, self.options["curve"], rng)
            if self.options["forgetting"]:
                bank.recall(bank.nearest(vectors[number], self.options["top_k"] or RECALLED), day)
            bank.add(piece, vectors[number])
        for last in summaries.values():
            bank.add_all(last)
        self._settled = bank, made
        return self._settled

    def _embedded_summaries(
        self, made: Summaries, dates: Mapping[int, str]
    ) -> dict[int, list[tuple[Piece, Tensor]]]:
        """The summary of each day that has one, with its embedding [width], to be added at the day's end."""
        from deltamem_eval.methods.memorybank.bank import SUMMARY, Piece

        pieces = [
            Piece(SUMMARY, day, f"{text}\n", recalled=day, dated=dates[day])
            for day, text in made.days.items()
            if text.strip()
        ]
        if not pieces:
            return {}
        vectors = self._embed([piece.heading + piece.text for piece in pieces])
        return {piece.day: [(piece, vector)] for piece, vector in zip(pieces, vectors, strict=True)}

    def _texts_by_day(self, days: list[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        for (text, _, _), day in zip(self._turns, days, strict=True):
            found[day] = found.get(day, "") + text
        return found

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Retrieve for each question and answer from what was found; recalls of questions leave no trace."""
        from deltamem_eval.methods.retrieved import answer_from_passages

        if not queries:
            return []
        passages = [self._retrieve(query, min(self._window, self._prompts.room(query))) for query in queries]
        return answer_from_passages(self._backbone, self._prompts, queries, passages)

    def _retrieve(self, query: Query, budget: int) -> list[str]:
        """Texts to show: portrait and history where they fit, then hits by day."""
        if not self._turns or budget <= 0:
            return []
        bank, made = self._settle()
        question = str(query.metadata.get("question", query.prompt))
        vector = self._embed([question])[0]
        # Where hits take all that is left, what is said of the whole comes first, with half of the room.
        before = [] if self.options["top_k"] else self._opening(made, budget // 2)
        budget -= sum(map(self._length, before))
        shown = self._hits(bank, vector, budget)
        after = self._opening(made, budget - self._size_of(bank, shown)) if self.options["top_k"] else []
        return [*before, *after, *bank.rendered(shown)]

    def _opening(self, made: Summaries, budget: int) -> list[str]:
        """Portrait and history, each where it fits into what is left of `budget` tokens."""
        opening = []
        for text in (made.portrait, made.history):
            size = self._length(f"{text}\n")
            if text.strip() and size <= budget:
                opening.append(f"{text}\n")
                budget -= size
        return opening

    def _hits(self, bank: Bank, vector: Tensor, budget: int) -> set[int]:
        """The pieces nearest to an embedding [width], each with its neighbours where they fit, that take at
        most `budget` tokens in a prompt.

        Of a number that was asked for, those that do not fit are passed over; else the first one that does
        not fit is the end.
        """
        shown: set[int] = set()
        most = self.options["top_k"]
        for hit in bank.nearest(vector, most or len(bank.pieces)):
            for group in (bank.around(hit, self.options["neighbour_chars"]), [hit]):
                if self._size_of(bank, shown.union(group)) <= budget:
                    shown.update(group)
                    break
            else:
                if not most:
                    break
        return shown

    def _size_of(self, bank: Bank, indices: set[int]) -> int:
        """Tokens of pieces as they stand in a prompt."""
        return sum(map(self._length, bank.rendered(indices)))

    def _length(self, text: str) -> int:
        """Tokens of a text; the pieces of a bank are asked for again and again."""
        if text not in self._lengths:
            self._lengths[text] = self._backbone.length(text)
        return self._lengths[text]

    def snapshot(self) -> Snapshot:
        """The turns; everything else follows from them, and is made here so that no answer waits for it."""
        self._settle()
        return Snapshot({}, {"turns": [list(turn) for turn in self._turns]})

    def restore(self, snapshot: Snapshot) -> None:
        """Put the turns back; the bank is kept where they are the same."""
        turns = [(str(text), session, int(index)) for text, session, index in snapshot.meta["turns"]]
        if turns != self._turns:
            self._turns, self._settled = turns, None

    def footprint(self) -> Footprint:
        """Bytes of all texts, and of the embeddings at 4 bytes a number."""
        bank, made = self._settle()
        texts = [piece.text for piece in bank.pieces]
        texts += [*made.traits.values(), made.history, made.portrait]
        vectors = sum(vector.numel() for vector in bank.vectors)
        return Footprint(text=sum(len(text.encode("utf-8")) for text in texts), index=4 * vectors)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Nothing is added to the backbone; a separate embedder's weights are its own."""
        return Overhead(0, 0)

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """The content hash of an embedder of its own, or its commit."""
        from deltamem_eval.hub import identity_of

        name = {**cls.defaults, **options}["embedder"]
        own = name != cls.defaults["embedder"]
        return {"embedder": identity_of(name, (".json", ".safetensors", ".bin", ".txt"))} if own else {}

    @classmethod
    def label(cls, options: Mapping[str, Any]) -> str:
        """Says which embedder is used, and whether summaries are left out."""
        merged = {**cls.defaults, **options}
        own = merged["embedder"] == cls.defaults["embedder"]
        said = ["backbone as embedder" if own else f"embedder {Path(merged['embedder']).name}"]
        if merged["summaries"] == "none":
            said.append("no summaries")
        return f"{cls.name} ({', '.join(said)})"


def _calendar(sessions: list[str]) -> dict[str, int] | None:
    """Days since the first date, where every session begins with one and they do not go back."""
    try:
        dates = [date.fromisoformat(session[:10]) for session in sessions]
    except ValueError:
        return None
    if dates != sorted(dates):
        return None
    return {session: (day - dates[0]).days for session, day in zip(sessions, dates, strict=True)}
