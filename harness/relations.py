"""MQuAKE's relations: how each is stated and how it is asked about, one value each.

Source: Zhong et al. 2023, "MQuAKE", prompts/templates/{cloze,question}_templates.json (MIT). Spelling slips
("univeristy", "origianl") are theirs and stand in the benchmark's contexts as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SUBJECT = "[X]"

# Statement up to its value, and question; the subject stands at [X].
_RELATIONS = (
    ("[X] is located in the country of", "Which country is [X] located in?"),
    ("[X] was born in the city of", "Which city was [X] born in?"),
    ("[X] died in the city of", "Which city did [X] die in?"),
    ("[X] is married to", "Who is [X] married to?"),
    ("[X] is located in the continent of", "Which continent is [X] located in?"),
    ("The capital of [X] is", "What is the capital of [X]?"),
    ("[X]'s child is", "Who is [X]'s child?"),
    ("The author of [X] is", "Who is the author of [X]?"),
    ("The univeristy where [X] was educated is", "Which university was [X] educated at?"),
    ("[X] works in the field of", "What kind of work does [X] do?"),
    ("[X] was founded by", "Who founded [X]?"),
    ("[X] is owned by", "Who owns [X]?"),
    ("[X] is located in", "Where is [X] located?"),
    ("The type of music that [X] plays is", "What type of music does [X] play?"),
    (
        "The headquarters of [X] is located in the city of",
        "Which city is the headquarter of [X] located in?",
    ),
    ("[X] was created by", "Who was [X] created by?"),
    ("[X] was performed by", "Who performed [X]?"),
    ("The company that produced [X] is", "Which company is [X] produced by?"),
    ("[X] is represented by", "What music label is [X] represented by?"),
    ("[X] was written in the language of", "Which language was [X] written in?"),
    ("[X] plays the position of", "What position does [X] play?"),
    ("[X] was created in the country of", "Which country was [X] created in?"),
    ("[X] was founded in the city of", "Where was [X] founded?"),
    ("[X] is famous for", "What is [X] famous for?"),
    ("The original language of [X] is", "What is the original language of [X]?"),
    ("[X] speaks the language of", "What language does [X] speak?"),
    ("[X] is a citizen of", "What is the country of citizenship of [X]?"),
    ("[X] worked in the city of", "Which city did [X] work in?"),
    ("The official language of [X] is", "What is the official language of [X]?"),
    ("[X] is affiliated with the religion of", "Which religion is [X] affiliated with?"),
    ("[X] was developed by", "Who is the developer of [X]?"),
    ("[X] is employed by", "Who is the employer of [X]?"),
    ("[X] is associated with the sport of", "Which sport is [X] associated with?"),
    ("The twinned administrative body of [X] is", "What is the twinned administrative body of [X]?"),
    ("[X] is a member of", "Which organization is [X] a member of?"),
    ("The origianl broadcaster of [X] is", "Who is the original broadcaster of [X]?"),
    (
        "The name of the current head of state in [X] is",
        "What is the name of the current head of state in [X]?",
    ),
    ("The head coach of [X] is", "Who is the head coach of [X]?"),
    ("The chairperson of [X] is", "Who is the chairperson of [X]?"),
    ("The chief executive officer of [X] is", "Who is the chief executive officer of [X]?"),
    ("The director of [X] is", "Who is the director of [X]?"),
    (
        "The name of the current head of the [X] government is",
        "What is the name of the current head of the [X] government?",
    ),
    ("The [X] is", "Who is the [X]?"),
)


@dataclass(frozen=True)
class Relation:
    """One relation. stated: its statements (groups: all up to the value, value); asked: its questions
    (group: subject).
    """

    cloze: str
    stated: re.Pattern[str]
    asked: re.Pattern[str]

    def prefix(self, subject: str) -> str:
        """The statement about `subject` up to its value, without the space before it."""
        return self.cloze.replace(SUBJECT, subject)


def _relation(cloze: str, question: str) -> Relation:
    stated = re.escape(cloze).replace(re.escape(SUBJECT), ".+?")
    asked = re.escape(question).replace(re.escape(SUBJECT), "(.+)")
    return Relation(cloze, re.compile(rf"({stated}) (.+)", re.DOTALL), re.compile(asked, re.DOTALL))


# The most specific first: "The capital of [X] is" before "The [X] is".
RELATIONS = tuple(_relation(*pair) for pair in sorted(_RELATIONS, key=lambda pair: -len(pair[0])))


def split_statement(statement: str) -> tuple[str, str] | None:
    """A statement of a known relation as (all up to the value, value), None for any other."""
    for relation in RELATIONS:
        found = relation.stated.fullmatch(statement)
        if found:
            return found[1], found[2]
    return None


def prefixes(question: str) -> list[str]:
    """How the answers to a question are stated, up to the value, likeliest first; none for other wordings."""
    return [
        relation.prefix(found[1])
        for relation in RELATIONS
        if (found := relation.asked.fullmatch(question.strip()))
    ]
