"""The curriculum's rungs: each draws batches of token ids and labels that teach copying from the context.

Trained on the tasks alone, a small model picks some value from its context and never the right one. Each
rung is climbed when the one below is nearly perfect, and copying stays in every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from deltamem_eval.tasks.embedded.episodes import Drawing, make_row, training_row
from deltamem_eval.tasks.embedded.world import PLAIN, Style

IGNORED = -100
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Drawn:
    """Token ids, and the same with IGNORED where nothing is to be learnt."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: sequences a batch, when to climb, when to give up waiting.

    fresh: the optimisers start anew, so that training can resume here from the weights alone. rate: share of
    the peak rates. gist: weight of the line ends' loss. parts: a batch is worked on in that many parts of
    about equal length, so that short rows carry little padding. threads: of a CPU; sums depend on their
    number, so it belongs to the recipe.
    """

    name: str
    batch: int
    target: float
    most_steps: int
    fresh: bool = False
    rate: float = 1.0
    gist: float = 0.0
    parts: int = 1
    threads: int = 2


RUNGS = (
    Rung("copying", 48, 0.93, 4000),
    Rung("records", 48, 0.95, 2500),
    Rung("plain", 32, 0.90, 1500),
    Rung("full", 24, 2.0, 1600, fresh=True),  # every step is used
    Rung("gist", 24, 2.0, 600, fresh=True, rate=0.5, gist=0.3),
    Rung("long", 24, 2.0, 700, fresh=True, rate=0.5, gist=0.3, parts=3, threads=1),
)


class Drawer:
    """Draws the sequences of a rung; three quarters its own, one quarter copying."""

    def __init__(self, encode: Encode, vocabulary: Sequence[int]) -> None:
        self._encode = encode
        self._vocabulary = list(vocabulary)

    def batch(self, rung: Rung, rng: Random) -> list[Drawn]:
        """One batch of the rung."""
        makers = {
            "copying": self.copying,
            "records": self.records,
            "plain": self.plain,
            "full": self.full,
            "gist": self.full,
            "long": self.long,
        }
        own = makers[rung.name]
        return [own(rng) if index % 4 else self.copying(rng) for index in range(rung.batch)]

    def copying(self, rng: Random) -> Drawn:
        """A random span repeated at a random later place, or random pairs asked again in another order."""
        pool = rng.sample(self._vocabulary, 48)
        return self._span(pool, rng) if rng.random() < 0.5 else self._pairs(pool, rng)

    def _span(self, pool: list[int], rng: Random) -> Drawn:
        size = rng.randint(14, 22)
        drawn = rng.sample(pool, len(pool))
        span, rest = drawn[:size], drawn[size:]  # a filler word from the span would have two continuations
        before = [rng.choice(rest) for _ in range(rng.randint(0, 3))]
        between = [rng.choice(rest) for _ in range(rng.randint(0, 6))]
        ids = [*before, *span, *between, *span]
        start = len(ids) - size + 1
        return Drawn(ids, [IGNORED] * start + ids[start:])

    def _pairs(self, pool: list[int], rng: Random) -> Drawn:
        count = rng.randint(6, 12)
        drawn = rng.sample(pool, 2 * count)
        pairs = list(zip(drawn[:count], drawn[count:], strict=True))
        ids = [token for pair in pairs for token in pair]
        labels = [IGNORED] * len(ids)
        for key, value in rng.sample(pairs, count):
            ids += [key, value]
            labels += [IGNORED, value]
        return Drawn(ids, labels)

    def records(self, rng: Random) -> Drawn:
        """Records of a one- to three-token key, a mark and a value; all asked again in another order."""
        mark, end = self._encode(" :"), self._encode("\n")
        size, count = rng.choice((1, 2, 3)), rng.randint(2, 7)
        drawn = rng.sample(self._vocabulary, count * (size + 1))
        items = [drawn[index * (size + 1) : (index + 1) * (size + 1)] for index in range(count)]
        ids: list[int] = []
        labels: list[int] = []
        for asked, group in ((False, items), (True, rng.sample(items, count))):
            for item in group:
                ids += [*item[:size], *mark, item[size], *end]
                labels += [IGNORED] * (size + len(mark)) + [item[size] if asked else IGNORED, IGNORED]
        return Drawn(ids, labels)

    def plain(self, rng: Random) -> Drawn:
        """Episodes in one wording, without openings, closings or filler."""
        kind = rng.choice(("codes", "rules", "preferences", "updates", "labels", "topics"))
        return self._episode(rng, kind, 60, rng.choice((2, 3, 4, 6)), PLAIN)

    def full(self, rng: Random) -> Drawn:
        """Episodes as they are evaluated, from short to about 300 tokens."""
        row = training_row(rng, rng.choice((100, 160, 240, 300)), Drawing(questions=8))
        return self._sequence(row["context"], row["questions"], [golds[0] for golds in row["answers"]])

    def long(self, rng: Random) -> Drawn:
        """Episodes up to the model's positions, more of them of the kinds learnt last."""
        kinds = ("codes", "labels", "labels", "labels", "rules", "preferences", "topics", "topics", "updates")
        row = training_row(rng, rng.choice((100, 200, 300, 440)), Drawing(kinds, questions=6))
        return self._sequence(row["context"], row["questions"], [golds[0] for golds in row["answers"]])

    def _episode(self, rng: Random, kind: str, tokens: int, count: int, style: Style) -> Drawn:
        row = make_row(
            kind,
            rng,
            split="train",
            context_tokens=tokens,
            associations=count,
            questions=6,
            style=style,
        )
        return self._sequence(row["context"], row["questions"], [golds[0] for golds in row["answers"]])

    def _sequence(self, context: str, questions: list[str], answers: list[str]) -> Drawn:
        """The context once, then each question with its answer; answers and newlines are learnt."""
        ids = self._encode(context)
        labels = [IGNORED] * len(ids)
        for question, answer in zip(questions, answers, strict=True):
            asked, told = self._encode(question), self._encode(f" {answer}\n")
            ids += [*asked, *told]
            labels += [IGNORED] * len(asked) + told
        return Drawn(ids, labels)
