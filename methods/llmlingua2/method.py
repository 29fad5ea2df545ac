"""LLMLingua-2 behind the harness's interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
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
from deltamem_eval.methods.window import LEAST_WINDOW

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone
    from deltamem_eval.overhead import ModelShape

EMBEDDED = "embedded"
_TRIES = 8
_AT_ONCE = 20  # times shorter that one go may make a text


class LlmLingua2(MemoryMethod):
    """The context compressed, without knowing the questions, to the window's tokens by a token classifier.

    Options. classifier: a token classifier with labels drop and keep, by hub name (Microsoft's:
    microsoft/llmlingua-2-xlm-roberta-large-meetingbank) or folder; `embedded` is a tiny one trained on the
    embedded world, which is not Microsoft's. force_tokens: characters always kept, while all of them take at
    most three quarters of the window; else line ends alone, and where even they take more, none: the package
    gives what is forced the highest rank, and nothing else would be left. It keeps words above a percentile
    in each chunk of 510 tokens (the paper ranks them over the whole text), in whole per cents, so that less
    than a twentieth is kept in several goes. What comes out may be far from the target: the target whose text
    is the longest that fits is searched for, and where none fits, the text is cut at its beginning.
    """

    name: ClassVar[str] = "llmlingua2"
    summary: ClassVar[str] = "the context compressed to the window by a token classifier"
    least_window: ClassVar[int] = LEAST_WINDOW
    defaults: ClassVar[Mapping[str, Any]] = {"classifier": EMBEDDED, "force_tokens": "\n?!."}

    def __init__(self, backbone: Backbone, settings: MethodSettings) -> None:
        from deltamem_eval.methods.llmlingua2.compressor import load_compressor
        from deltamem_eval.methods.options import merge_options
        from deltamem_eval.methods.shared_prefix import SharedPrefix
        from deltamem_eval.methods.window import Window, window_size

        self.options = merge_options(self.name, self.defaults, settings.options)
        if self.options["classifier"] == EMBEDDED and backbone.name != EMBEDDED:
            raise UserError(
                "the embedded classifier knows the embedded world alone: give --option classifier=NAME, for "
                "example microsoft/llmlingua-2-xlm-roberta-large-meetingbank"
            )
        self._backbone = backbone
        self._size = window_size(backbone, settings.window)
        self._window = Window(backbone, self._size)
        self._shared = SharedPrefix(backbone, self._window)
        self._compress = load_compressor(
            classifier_path(self.options["classifier"]),
            backbone.encode,
            str(backbone.device),
        )
        self.reset()

    def reset(self) -> None:
        """Forget the context."""
        self._texts: list[str] = []
        self._settled = False
        self._window.ids, self._window.seen = [], 0
        self._shared.clear()

    def write(self, chunk: Chunk) -> None:
        """Take in a chunk; compression waits until all are there, so that they share the budget."""
        self._texts.append(chunk.text)
        self._settled = False

    def _settle(self) -> None:
        """Compress everything written so far into the window."""
        if self._settled:
            return
        self._settled = True
        ids = self._backbone.encode(self._compressed("".join(self._texts))) if self._size else []
        self._window.ids = ids[-self._size :] if self._size else []
        self._window.seen = len(ids)
        self._shared.clear()

    def _compressed(self, text: str) -> str:
        """The text itself where it fits, else compressed until it does, or nearly so."""
        target, length = self._size, self._backbone.length(text)
        if length <= target:
            return text
        forced = self._forced(text)
        while length > self._size * _AT_ONCE:
            text, before = self._compress(text, length // _AT_ONCE, forced), length
            length = self._backbone.length(text)
            if length >= before:
                break
        return self._longest_that_fits(text, length, forced)

    def _longest_that_fits(self, text: str, length: int, forced: str) -> str:
        """The text compressed to at most the window's tokens and little less, `length` being its own.

        Targets that are too small and too large close in on each other by the ratio of what came out, or by
        halving, down to a hundredth of the text, which is as fine as the package's percentile is.
        """
        low, high, target, step = 0, length, self._size, max(length // 100, 1)
        best, shortest = "", text
        for _ in range(_TRIES):
            found = self._compress(text, target, forced)
            shown = self._backbone.length(found)
            if shown <= self._size:
                low, best = target, found
            else:
                high, shortest = target, found
            if shown == self._size or high - low <= step:
                break
            guess = target * self._size // max(shown, 1)
            target = guess if low + step <= guess <= high - step else (low + high) // 2
        return best or shortest

    def _forced(self, text: str) -> str:
        """The characters to keep always in this text."""
        wanted = self.options["force_tokens"]
        for forced in (wanted, "\n" if "\n" in wanted else ""):
            if 4 * sum(map(text.count, forced)) <= 3 * self._size:
                return str(forced)
        return ""

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer from the compressed text, which is read once however many questions there are."""
        self._settle()
        return self._shared.answer(queries)

    def snapshot(self) -> Snapshot:
        """The context's text, so that writing can go on, and the compressed text's ids."""
        self._settle()
        meta = {"texts": list(self._texts), "ids": list(self._window.ids), "seen": self._window.seen}
        return Snapshot({}, meta)

    def restore(self, snapshot: Snapshot) -> None:
        """Put both back; the prefilled prefix is kept where it still fits."""
        self._texts = list(snapshot.meta["texts"])
        self._window.ids = list(snapshot.meta["ids"])
        self._window.seen = int(snapshot.meta["seen"])
        self._settled = True

    def footprint(self) -> Footprint:
        """The compressed text with its keys and values; the raw text is kept for further writing alone."""
        self._settle()
        text = len(self._backbone.decode(self._window.ids).encode("utf-8"))
        return Footprint(text=text, kv=self._shared.bytes)

    @classmethod
    def overhead(cls, shape: ModelShape, options: Mapping[str, Any]) -> Overhead:
        """Nothing is added to the backbone; the classifier is a model of its own."""
        return Overhead(0, 0)

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """The classifier's content hash, or its commit."""
        from deltamem_eval.hub import identity_of

        place = classifier_path({**cls.defaults, **options}["classifier"])
        return {"classifier": identity_of(place, (".json", ".safetensors", ".bin", ".txt"))}

    @classmethod
    def label(cls, options: Mapping[str, Any]) -> str:
        """Says which classifier; the embedded one is so called by its folder too."""
        classifier = {**cls.defaults, **options}["classifier"]
        own = Path(classifier_path(classifier)).resolve() == Path(classifier_path(EMBEDDED)).resolve()
        which = "embedded classifier" if own else f"classifier {Path(classifier).name}"
        return f"{cls.name} ({which})"


def classifier_path(name: str) -> str:
    """Folder or hub name of the classifier an option names."""
    if name != EMBEDDED:
        return name
    from deltamem_eval.backbone import embedded_folder

    return str(embedded_folder() / "llmlingua2")
