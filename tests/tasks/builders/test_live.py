"""Live dialogues: what holds is applied at once, corrected later, and asked about at the end."""

import re
from datetime import date

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders.common import Settings
from deltamem_eval.tasks.builders.live import SOURCE, chunks, live
from deltamem_eval.tasks.builders.live_words import TOPICS
from deltamem_eval.tasks.memory_agent_bench.rows import check_row


def words(text: str) -> int:
    return len(text.split())


SETTINGS = Settings(1500, 60, words, seed=5, resamples=3)


def test_lines_are_dated_and_in_order() -> None:
    for row in live([], SETTINGS).rows:
        found = chunks(row["context"])
        assert "".join(chunk.text for chunk in found) == row["context"]
        days = [date.fromisoformat(chunk.session or "") for chunk in found]
        assert days == sorted(days)
        assert len(set(days)) > 5
        assert [chunk.role for chunk in found] == ["user", "assistant"] * (len(found) // 2)
        assert 1400 < words(row["context"]) <= 1500
        assert row["metadata"]["question_dates"] == [str(days[-1])] * len(row["questions"])


def test_rows_follow_the_schema_and_differ_by_seed() -> None:
    rows = live([], SETTINGS).rows
    assert len({row["context"] for row in rows}) == 3
    assert live([], SETTINGS).rows == rows
    assert live([], Settings(1500, 60, words, seed=6)).rows[0] == rows[1]
    for row in rows:
        assert row["metadata"]["source"] == SOURCE
        check_row(row, "row")


def test_evidence_gives_the_answer_and_nothing_later_changes_it() -> None:
    for row in live([], SETTINGS).rows:
        lines = row["context"].splitlines()
        metadata = row["metadata"]
        kinds = zip(
            row["questions"], row["answers"], metadata["evidence"], metadata["question_types"], strict=True
        )
        for question, (gold,), (line,), kind in kinds:
            assert gold in line
            assert gold.lower() in lines[lines.index(line) + 3].lower()  # applied at once
            topic = next(item for item in TOPICS.values() if any(ask in question for ask in item.ask))
            assert kind.startswith(topic.kind)
            patterns = [re.escape(text).replace(r"\{value\}", "(.+)") for text in (*topic.set, *topic.fix)]
            given = [
                (number, found[1])
                for number, text in enumerate(lines)
                for pattern in patterns
                if (found := re.fullmatch(rf"\[.{{10}}\] user: {pattern}", text))
            ]
            if kind.endswith("-now"):
                assert given[-1][1] == gold
            else:
                assert given[-1][1] != gold
                day = line[1:11]
                assert [value for number, value in given if lines[number][1:11] <= day][-1] == gold
                assert day in question


def test_every_kind_of_question_is_asked() -> None:
    kinds = {kind for row in live([], SETTINGS).rows for kind in row["metadata"]["question_types"]}
    assert kinds == {"rule-now", "rule-then", "preference-now", "preference-then"}


def test_no_value_stands_in_another_of_its_topic() -> None:
    for topic in TOPICS.values():
        assert not [(a, b) for a in topic.values for b in topic.values if a != b and a in b]
        assert not any("{value}" in text for text in (*topic.need, *topic.ask))


def test_what_cannot_be_made_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="5 tokens hold no topic"):
        live([], Settings(5, 5, words))
    with pytest.raises(UserError, match="made without files"):
        live([tmp_path], SETTINGS)
    few = live([], Settings(120, 50, words))
    assert len(few.rows[0]["questions"]) < 50
    assert "questions at least" in few.notes[0]
