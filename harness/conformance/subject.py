"""The method under test: how to make it, here and in another process, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, Chunk, MemoryMethod, MethodSettings, Query
from deltamem_eval.registry import METHODS

if TYPE_CHECKING:
    from deltamem_eval.backbone import Backbone

_NAMES = ("Ada Walsh", "Omar Sloan", "Rita Falk", "Hugo Brandt", "Nora Keller", "Ivan Rossi")
_CITIES = ("Oslo", "Lima", "Cairo", "Paris", "Kyoto", "Rome")


@dataclass(frozen=True)
class Subject:
    """A method on a model.

    method: a registered name, or `package.module:Class`. model: as `--model` takes it; every question must
    fit it twice over. window: context tokens in the prompt where a check does not set its own.
    """

    method: str
    model: str = "embedded"
    adapter: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    window: int = 60

    @property
    def kind(self) -> type[MemoryMethod]:
        """The method's class. Raises UserError for a name that leads to none."""
        module, colon, name = self.method.partition(":")
        if not colon:
            return METHODS.load(self.method)
        try:
            found: Any = getattr(import_module(module), name)
        except Exception as error:  # a module may raise anything
            raise UserError(f"cannot import {self.method}: {type(error).__name__}: {error}") from error
        if not (isinstance(found, type) and issubclass(found, MemoryMethod)):
            raise UserError(f"{self.method} is no MemoryMethod")
        return found

    def backbone(self) -> Backbone:
        """The model, loaded once a process."""
        return _backbone(self.model)

    def make(self, window: int | None = None, seed: int = 0) -> MemoryMethod:
        """The method with an empty memory."""
        size = self.window if window is None else window
        settings = MethodSettings(size, seed, self.adapter, dict(self.options))
        return self.kind(self.backbone(), settings)


@cache
def _backbone(model: str) -> Backbone:
    from deltamem_eval.backbone import load_backbone

    return load_backbone(model, "cpu", "float32")


def context(shift: int = 0, lines: int = 12) -> list[Chunk]:
    """A context in lines; another shift gives other facts of the same length."""
    return [
        Chunk(
            f"note : {_NAMES[index % 6]} lives in {_CITIES[(index + index // 6 + shift) % 6]}\n",
            index,
            session=f"2024-01-{1 + index // 4:02d}",
        )
        for index in range(lines)
    ]


def questions() -> list[Query]:
    """Questions of different lengths."""
    texts = (
        "question : where does Ada Walsh live now ? answer :",
        "Omar Sloan ?",
        "question : in which city is Rita Falk today ? please answer with the name alone . answer :",
        "question : city where you can find Hugo Brandt now ? answer :",
        "code",
    )
    return [
        Query(f"q{index}", text, ("Oslo",), 6, metadata={"question": text})
        for index, text in enumerate(texts)
    ]


def write(method: MemoryMethod, chunks: Sequence[Chunk]) -> None:
    """Write chunks in order."""
    for chunk in chunks:
        method.write(chunk)


def replies(method: MemoryMethod, asked: Sequence[Query]) -> dict[str, str]:
    """Each question's answer by its id."""
    return {query.id: answer.text for query, answer in zip(asked, method.answer(asked), strict=True)}


def prompts(answers: Sequence[Answer]) -> list[str]:
    """What the model saw, as hashes."""
    return [answer.prompt_hash for answer in answers]
