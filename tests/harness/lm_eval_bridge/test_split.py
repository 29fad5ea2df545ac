"""Where requests are cut."""

from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.lm_eval_bridge.split import Splitter


@pytest.mark.parametrize(
    ("rule", "text", "doc", "context"),
    [
        ("none", "a\n\nb", {}, ""),
        ("blank", "a\n\nb", {}, "a\n\n"),
        ("blank", "a\n\nb\n\nc d\n", {}, "a\n\nb\n\n"),
        ("blank", "a\n \t\n  b", {}, "a\n \t\n  "),
        ("blank", "a b\n\n", {}, ""),
        ("blank", "a\nb", {}, ""),
        ("text:\\n", "a\nb\nc", {}, "a\nb\n"),
        ("text: b", "a b", {}, ""),
        ("text:Q: ", "x Q: y Q: z", {}, "x Q: y Q: "),
        ("field:note", "a b. c?", {"note": " a b."}, "a b. "),
        ("auto", "first. a b. c?", {"context": "a b."}, "first. a b. "),
        ("auto", "x\n\nc?", {"context": "a b."}, "x\n\n"),
        ("auto", "x\n\na b.", {"context": "a b."}, "x\n\n"),
        ("auto", "x\n\nc?", {"context": ["a b."]}, "x\n\n"),
        ("auto", "x\n\nc?", None, "x\n\n"),
        ("auto", "", {}, ""),
    ],
)
def test_rules(rule: str, text: str, doc: Any, context: str) -> None:
    parts = Splitter(rule).split(text, doc)
    assert parts.context == context
    assert parts.context + parts.question == text


@pytest.mark.parametrize("rule", ["", "line", "field", "field:", "text:", "blank:2"])
def test_other_rules_are_refused(rule: str) -> None:
    with pytest.raises(UserError, match="no split rule"):
        Splitter(rule)


@pytest.mark.parametrize("doc", [None, {}, {"note": ""}, {"note": "elsewhere"}, {"note": "a b"}])
def test_a_field_must_stand_before_a_question(doc: Any) -> None:
    with pytest.raises(UserError, match="the document's note"):
        Splitter("field:note").split("a b", doc)
