"""A backbone whose generations have a forced length and tell when each token comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from deltamem_eval.backbone import Backbone


class Watch(Protocol):
    """What is told while something generates."""

    def generation(self) -> None:
        """A generation begins; its first forward may be over."""

    def token(self) -> None:
        """The generation's next token is there, on the host."""


class WatchedBackbone(Backbone):
    """Another backbone's model, decoding one row; no token ends a generation, so that all are equally long.

    watch: told of every generation, or None.
    """

    def __init__(self, loaded: Backbone) -> None:
        super().__init__(loaded.model, loaded.tokenizer, loaded.name, loaded.identity, batch_size=1)
        self.watch: Watch | None = None

    def end_ids(self) -> frozenset[int]:
        """No ids; each generation looks its tokens up there, which is how they are seen."""
        if self.watch is None:
            return frozenset()
        self.watch.generation()
        return _Endless(self.watch.token)


class _Endless(frozenset[int]):
    """The empty set, telling of every look-up."""

    _asked: Callable[[], None]

    def __new__(cls, asked: Callable[[], None]) -> _Endless:
        made = super().__new__(cls)
        made._asked = asked
        return made

    def __contains__(self, token: object) -> bool:
        self._asked()
        return False
