"""Dated dialogues of our own making: rules, preferences and corrections given in mid-conversation.

Each line of a context is "[2024-03-05] user: ..." or the same of the assistant. What the user sets or
corrects is called for at once, and again now and then; the assistant acts on the value that holds by then.
Questions ask what holds at the end, or held on an earlier day. No file is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from random import Random

from deltamem_eval.errors import UserError
from deltamem_eval.interface import Chunk
from deltamem_eval.tasks.builders.common import EMPTY, Built, Settings
from deltamem_eval.tasks.builders.live_words import CHAT, THANKS, TOPICS, Topic
from deltamem_eval.tasks.memory_agent_bench.rows import Row

BUILDER_VERSION = 1
SOURCE = "live_dialogues"
_START = date(2024, 1, 8)
_TURN = re.compile(r"\[(\d{4}-\d\d-\d\d)\] (user|assistant): ")


@dataclass(frozen=True)
class Block:
    """Turns that stay together, as (role, text). sets: topic and number of the value they give, if any."""

    turns: tuple[tuple[str, str], ...]
    sets: tuple[str, int] | None = None


@dataclass
class Told:
    """What was said: lines; for each (topic, number of its value) the day and the line that gave it."""

    lines: list[str] = field(default_factory=list)
    given: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)
    last: str = ""


def live(paths: Sequence[Path], settings: Settings) -> Built:
    """One dialogue a seed, source `live_dialogues`, with up to the number of questions that are wanted.

    Raises UserError for files, which it does not take, or a budget that holds no topic.
    """
    if paths:
        raise UserError("live is made without files: leave --source out")
    rows = [_row(seed, settings) for seed in settings.seeds]
    fewest = min(len(row["questions"]) for row in rows)
    short = f"a row has {fewest} questions at least: its topics give no more of them"
    return Built(rows, [short] if fewest < settings.questions else [])


def chunks(context: str) -> tuple[Chunk, ...]:
    """A context's lines as chunks whose session is the day and whose role is the speaker's."""
    found = []
    for index, line in enumerate(context.splitlines(keepends=True)):
        turn = _TURN.match(line)
        found.append(Chunk(line, index, turn[2] if turn else "user", turn[1] if turn else None))
    return tuple(found)


def _row(seed: int, settings: Settings) -> Row:
    rng = Random(f"live/{BUILDER_VERSION}/{seed}")
    values, told = _dialogue(settings, rng)
    asked = _questions(values, told, rng)[: settings.questions]
    count = len(asked)
    return {
        "context": "".join(told.lines),
        "questions": [item.prompt for item in asked],
        "answers": [[item.answer] for item in asked],
        "metadata": {
            **dict.fromkeys(EMPTY),
            "source": SOURCE,
            "qa_pair_ids": [f"{SOURCE}_{seed}_no{index}" for index in range(count)],
            "question_types": [item.kind for item in asked],
            "question_dates": [told.last] * count,
            "evidence": [[item.evidence] for item in asked],
            "chance": [1 / len(TOPICS[item.topic].values) for item in asked],
            "selection": [1 / len(set(values[item.topic])) for item in asked],
            "associations": [len(values)] * count,
            "updates": [item.updates for item in asked],
            "seed": seed,
        },
    }


def _dialogue(settings: Settings, rng: Random) -> tuple[dict[str, list[str]], Told]:
    """Each topic's values and what was said, within the budget on the whole, too."""
    tokens = settings.tokens
    while True:
        values, blocks = _script(replace(settings, tokens=tokens), rng)
        told = _tell(blocks, rng)
        over = settings.count("".join(told.lines)) - settings.tokens
        if over <= 0:
            return values, told
        tokens = max(1, tokens - over)


def _script(settings: Settings, rng: Random) -> tuple[dict[str, list[str]], list[Block]]:
    """Each topic's values in order, and blocks in order, within the budget.

    Topics come first, as many as fit in a random order; small talk and repeated requests take up the rest.
    """
    longest = f"[{_START}] assistant: "

    def cost(block: Block) -> int:
        return sum(settings.count(f"{longest}{text}\n") for _, text in block.turns)

    values: dict[str, list[str]] = {}
    told: list[list[Block]] = []
    left = settings.tokens
    for name in rng.sample(sorted(TOPICS), len(TOPICS)):
        topic = TOPICS[name]
        chosen = rng.sample(topic.values, rng.choice((1, 2, 2, 3)))
        made = [_given(name, topic, chosen, number, rng) for number in range(len(chosen))]
        price = sum(map(cost, made))
        if price > left:
            continue
        left -= price
        values[name] = chosen
        told.append(made)
    if not values:
        raise UserError(f"{settings.tokens} tokens hold no topic of a live dialogue: raise --tokens")
    blocks = _mixed(told, rng)
    while (filler := _filler(blocks, values, rng)) and (price := cost(filler[1])) <= left:
        left -= price
        blocks.insert(*filler)
    return values, blocks


def _given(name: str, topic: Topic, values: list[str], number: int, rng: Random) -> Block:
    """A value given, or corrected, and called for at once."""
    value = values[number]
    said = rng.choice(topic.fix if number else topic.set).format(value=value)
    return Block(
        (("user", said), ("assistant", rng.choice(THANKS)), *_use(topic, value, rng)),
        (name, number),
    )


def _use(topic: Topic, value: str, rng: Random) -> tuple[tuple[str, str], ...]:
    reply = topic.reply.format(value=value)
    return ("user", rng.choice(topic.need)), ("assistant", reply[0].upper() + reply[1:])


def _mixed(groups: list[list[Block]], rng: Random) -> list[Block]:
    """All groups' blocks at random, each group's in its order."""
    order = [number for number, group in enumerate(groups) for _ in group]
    rng.shuffle(order)
    left = [iter(group) for group in groups]
    return [next(left[number]) for number in order]


def _filler(blocks: list[Block], values: dict[str, list[str]], rng: Random) -> tuple[int, Block]:
    """A place and small talk to put there, or one time in five a request that was provided for before it."""
    place = rng.randint(0, len(blocks))
    holding = dict(block.sets for block in blocks[:place] if block.sets)
    if holding and rng.random() < 0.2:
        name = rng.choice(sorted(holding))
        return place, Block(_use(TOPICS[name], values[name][holding[name]], rng))
    said, answered = rng.choice(CHAT)
    return place, Block((("user", said), ("assistant", answered)))


def _tell(blocks: list[Block], rng: Random) -> Told:
    """The blocks on days: up to four a day, no topic changed twice on one, the next a few days later."""
    told = Told()
    day, size = _START + timedelta(rng.randrange(200)), 0
    changed: set[str] = set()
    for block in blocks:
        again = block.sets is not None and block.sets[0] in changed
        if again or size >= 4 or (size and rng.random() < 0.2):
            day, size = day + timedelta(rng.randint(1, 4)), 0
            changed = set()
        size += 1
        lines = [f"[{day}] {role}: {text}\n" for role, text in block.turns]
        told.lines += lines
        if block.sets:
            changed.add(block.sets[0])
            told.given[block.sets] = (str(day), lines[0].strip())
    told.last = str(day)
    return told


@dataclass(frozen=True)
class _Asked:
    kind: str
    topic: str
    prompt: str
    answer: str
    evidence: str
    updates: int


def _questions(values: dict[str, list[str]], told: Told, rng: Random) -> list[_Asked]:
    """Every wording of what holds at the end and held before, shuffled within rounds of one a topic.

    A value that was corrected is asked about as of the day on which it was given.
    """
    rounds: dict[int, list[_Asked]] = {}
    for name, held in values.items():
        wordings = rng.sample(TOPICS[name].ask, len(TOPICS[name].ask))
        numbers = [len(held) - 1, *range(len(held) - 1)]
        for turn, (number, wording) in enumerate((n, text) for text in wordings for n in numbers):
            day, line = told.given[name, number]
            now = number == len(held) - 1
            prompt = _prompt(wording, None if now else day)
            kind = f"{TOPICS[name].kind}-{'now' if now else 'then'}"
            item = _Asked(kind, name, prompt, held[number], line, number)
            rounds.setdefault(turn, []).append(item)
    for turn in sorted(rounds):
        rng.shuffle(rounds[turn])
    return [item for turn in sorted(rounds) for item in rounds[turn]]


def _prompt(wording: str, day: str | None) -> str:
    when = "Go by what holds at the end of" if day is None else f"Go by what held at the end of {day} in"
    return f"{when} the dialogue and answer with that alone.\nQuestion: {wording}\nAnswer:"
