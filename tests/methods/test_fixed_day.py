"""Prompts do not change with the calendar: templates that ask for the day are told one day always."""

from datetime import datetime

import pytest
from deltamem_eval.interface import Query
from deltamem_eval.methods.prompt import PromptBuilder, on_one_day
from tiny import tiny_backbone
from transformers.utils import chat_template_utils

QUERY = Query("q", "Which one?", ("x",))
PLAIN = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}{% endfor %}"
SMOL = '{% set today = strftime_now("%d %B %Y") %}[{{ today }}]' + PLAIN
LLAMA = (
    "{%- if not date_string is defined %}\n"
    '    {%- set date_string = strftime_now("%d %b %Y") if strftime_now is defined else "never" %}\n'
    "{%- endif %}\n[{{ date_string }}]" + PLAIN
)


@pytest.fixture(autouse=True)
def _another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2031, 1, 2, 3, 4, 5)

    monkeypatch.setattr(chat_template_utils, "datetime", Later)


def prompt(template: str) -> str:
    backbone = tiny_backbone()
    backbone.tokenizer.chat_template = template
    return backbone.decode(PromptBuilder(backbone).build((), QUERY).whole().ids)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (SMOL, "[26 July 2024]<user>Which one?"),
        (LLAMA, "[26 Jul 2024]<user>Which one?"),
        (
            "{{ strftime_now('%Y-%m-%d, %A, %-m/%-d/%y %H:%M') }}" + PLAIN,
            "2024-07-26, Friday, 7/26/24 00:00<user>",
        ),
        ("{{ date_string }}" + PLAIN, "26 Jul 2024<user>Which one?"),
        (PLAIN, "<user>Which one?"),
    ],
)
def test_a_template_is_told_one_day(template: str, wanted: str) -> None:
    assert prompt(template).startswith(wanted)


@pytest.mark.parametrize("beginning", ["", "\n", "  ", "\n\n  {#- said first #}", "x\n"])
def test_nothing_else_of_the_template_changes(beginning: str) -> None:
    template = beginning + "  {% if true %}\n  a{% endif %}\n " + PLAIN
    mention = "{# strftime_now #}"
    backbone = tiny_backbone()
    said = [{"role": "user", "content": "hello"}]
    plain, dated = (
        backbone.tokenizer.apply_chat_template(said, chat_template=made, tokenize=False)
        for made in (template + mention, on_one_day(template + mention))
    )
    assert plain == dated
    assert on_one_day(template) == template
