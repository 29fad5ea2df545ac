"""The official metrics, by hand and by property."""

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench.metrics import (
    exact_match,
    f1,
    rouge,
    score,
    substring_exact_match,
)
from deltamem_eval.tasks.memory_agent_bench.replies import normalise, parse_reply
from deltamem_eval.tasks.memory_agent_bench.sources import source_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Eiffel-Tower!", "eiffeltower"),
        ("an  apple\ta day", "apple day"),
        ("theatre of A.", "theatre of"),
        ("", ""),
        ("Ünïcode “quoted”", "ünïcode “quoted”"),
    ],
)
def test_normalise(text: str, wanted: str) -> None:
    assert normalise(text) == wanted


@pytest.mark.parametrize(
    ("said", "gold", "wanted"),
    [
        ("the red fox", "red fox", 1.0),
        ("red fox runs", "red fox", 2 * 2 / 5),
        ("fox fox", "fox", 2 / 3),
        ("yes", "yes it is", 0.0),
        ("no", "No.", 1.0),
        ("blue", "red", 0.0),
        ("", "red", 0.0),
    ],
)
def test_f1_by_hand(said: str, gold: str, wanted: float) -> None:
    assert f1(said, gold) == pytest.approx(wanted)


def official_f1(shared: int, said: int, wanted: int) -> float:
    """The official scorer's expression, of counts of tokens."""
    precision = 1.0 * shared / said
    recall = 1.0 * shared / wanted
    return (2 * precision * recall) / (precision + recall)


def test_f1_is_the_official_one_to_the_bit() -> None:
    assert f1("u v w x", "u v y") == 0.5714285714285715  # twice 2 by 7 is one bit less
    for said in range(1, 12):
        for wanted in range(1, 12):
            for shared in range(1, min(said, wanted) + 1):
                both = [f"w{number}" for number in range(shared)]
                reply = " ".join([*both, *(f"s{number}" for number in range(said - shared))])
                gold = " ".join([*both, *(f"g{number}" for number in range(wanted - shared))])
                assert f1(reply, gold) == official_f1(shared, said, wanted)


def test_substring_goes_by_characters() -> None:
    assert substring_exact_match("label 125", "12") == 1.0
    assert exact_match("label 125", "12") == 0.0


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("Answer: Paris\nand more", "Paris"),
        ("I think\nANSWER:  Answer: Paris ", "Paris"),
        ("Paris\nLondon", "Paris"),
        ("\nParis", ""),
        ("answer:", ""),
    ],
)
def test_parsing_a_reply(reply: str, wanted: str) -> None:
    assert parse_reply(reply) == wanted


def test_the_better_of_raw_and_parsed_counts_but_for_parsed_sources() -> None:
    reply = "It was Paris.\nAnswer: London"
    assert score("factconsolidation_sh_6k", reply, ["Paris"])["substring_exact_match"] == 1.0
    assert score("eventqa_full", reply, ["Paris"])["substring_exact_match"] == 0.0
    assert score("eventqa_full", reply, ["Rome", "London"])["exact_match"] == 1.0


def test_rouge_by_hand() -> None:
    found = rouge("The cats sat\nOn a mat", "cat sat on the mat")
    # Stemmed: the cat sat on a mat; the longest common subsequence is cat sat on mat, 4 of 6 and of 5.
    assert found["rougeL_f1"] == pytest.approx(2 * (4 / 6) * (4 / 5) / (4 / 6 + 4 / 5))
    assert found["rougeL_recall"] == pytest.approx(4 / 5)
    # By sentences (lines), the union of the common subsequences: the same words here.
    assert found["rougeLsum_recall"] == pytest.approx(4 / 5)
    assert set(score("infbench_sum_eng_shots2", "a", [["a summary"]])) == {
        "exact_match",
        "f1",
        "substring_exact_match",
        *found,
    }


def test_rouge_of_lines_in_another_order_by_hand() -> None:
    found = rouge("cat sat\ndog ran", "dog ran far\ncat sat")
    # On the whole only one of the two lines can be in order: 2 of 4 words, 2 of 5.
    assert found["rougeL_f1"] == pytest.approx(2 * (2 / 4) * (2 / 5) / (2 / 4 + 2 / 5))
    assert found["rougeL_recall"] == pytest.approx(2 / 5)
    # Line by line both are found: 4 of 4 words, 4 of 5.
    assert found["rougeLsum_f1"] == pytest.approx(2 * (4 / 4) * (4 / 5) / (4 / 4 + 4 / 5))
    assert found["rougeLsum_recall"] == pytest.approx(4 / 5)


def test_every_event_must_stand_in_the_raw_reply() -> None:
    golds = ["Debbie waited.", "She LEFT."]
    reply = "first\nDEBBIE waited. then she left."
    assert score("eventqa_full", reply, golds)["eventqa_recall"] == 1.0
    assert score("eventqa_full", "Debbie waited.", golds)["eventqa_recall"] == 0.0


@pytest.mark.parametrize(
    ("source", "reply", "golds", "official", "meant"),
    [
        ("icl_banking77_5900shot_balance", "label: 43", ["43"], 0.0, 1.0),
        ("icl_banking77_5900shot_balance", "label: 4\nlabel: 43", ["43"], 0.0, 1.0),
        ("icl_banking77_5900shot_balance", "43", ["43"], 1.0, 1.0),
        ("icl_banking77_5900shot_balance", "label: 4", ["43"], 0.0, 0.0),
        ("icl_banking77_5900shot_balance", "label: 43. The label fits best", ["43"], 0.0, 1.0),
        ("icl_banking77_5900shot_balance", "Label:\n43", ["43"], 0.0, 1.0),
        ("icl_banking77_5900shot_balance", "the label **43**", ["43"], 0.0, 1.0),
        ("icl", "label: 43", ["43"], 0.0, 1.0),
        ("icl_banking77_5900shot_balance", "43\n(the label for transfers)", ["43"], 1.0, 1.0),
        ("icl_banking77_5900shot_balance", "43\n\nHow do I pay?\nlabel: 12", ["43"], 1.0, 1.0),
        ("detective_qa", '{"answer": "C. The couple", "reasoning": "x"}', ["C.The couple"], 0.0, 1.0),
        ("detective_qa", '{"answer": "B", "reasoning": "not C."}', ["C. The couple"], 0.0, 0.0),
        ("detective_qa", '{"answer": "C. It {so} goes", "reasoning": "a } b {"}', ["C. x"], 0.0, 1.0),
        ("detective_qa", '{"answer": "C. x", "clues": {"one": {"who": "A. y"}}}', ["C. x"], 0.0, 1.0),
        ("detective_qa", '{"result": {"answer": "C. x"}, "n": 1}', ["C. x"], 0.0, 1.0),
        ("detective_qa", '{"answer": "A. y"} or {"answer": "C. x", "reasoning": "the', ["C. x"], 0.0, 1.0),
        (
            "detective_qa",
            'So {it is}:\n{"answer": "C. x\ny", "reasoning": "\\"answer\\": \\"A',
            ["C. x"],
            0.0,
            1.0,
        ),
        ("detective_qa", '{"answer": "C. The', ["C. x"], 0.0, 1.0),
        ("detective_qa", "{" * 3000 + '{"answer": "C."', ["C. x"], 0.0, 1.0),
        ("detective_qa", '{"answer": 3, "other": [{"answer": "C. x"}]}', ["C. x"], 0.0, 1.0),
        ("detective_qa", "Answer: (c) The couple", ["C. The couple"], 1.0, 1.0),
        ("detective_qa", "B Hila Weber", ["B. Hila Weber"], 1.0, 1.0),
        ("detective_qa", "nobody knows", ["C. The couple"], 0.0, 0.0),
        ("eventqa_full", "Anna left. Or Bob stayed.", ["Bob stayed."], 0.0, 0.0),
    ],
)
def test_what_a_reply_means(source: str, reply: str, golds: list[str], official: float, meant: float) -> None:
    found = score(source, reply, golds)
    assert (found["exact_match"], found["flexible_exact_match"]) == (official, meant)


def test_no_answer_to_score_by() -> None:
    with pytest.raises(UserError, match="no acceptable answer"):
        score("ruler_qa1", "a", [])


@pytest.mark.parametrize(
    ("said", "golds", "words"),
    [
        ("a", None, "acceptable answers to a question of ruler_qa1 must be texts, not None"),
        ("a", ["a", None], "must be texts, not None"),
        ("a", [["a"], [7]], "must be texts, not 7"),
        ("a", {"a": 1}, "must be texts, not {'a': 1}"),
        (None, ["a"], "a reply to a question of ruler_qa1 must be a text, not None"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(said: object, golds: object, words: str) -> None:
    with pytest.raises(UserError, match=f"^.*{words}$"):
        score("ruler_qa1", said, golds)


@pytest.mark.parametrize(
    "name", ["eventqa", "icl", "recsys", "detective", "longmemeval", "factconsolidation", "ruler_qa", "live"]
)
def test_a_family_s_bare_name_is_a_source(name: str) -> None:
    assert source_of(name) is source_of(f"{name}_x")


@pytest.mark.parametrize("name", ["infbench_choice_eng", "infbench_qa_eng", "eventqax", "ic", "recsysx"])
def test_what_the_benchmark_does_not_have_is_unknown(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown source '{name}'.*infbench_sum"):
        score(name, "a", ["a"])


def test_unknown_source() -> None:
    with pytest.raises(UserError, match="unknown source"):
        score("nowhere", "a", ["a"])


@given(st.text(), st.text())
def test_bounds_and_implications(said: str, gold: str) -> None:
    assert 0 <= f1(said, gold) <= 1
    assert f1(said, gold) == pytest.approx(f1(gold, said))
    if exact_match(said, gold):
        assert substring_exact_match(said, gold) == 1
        assert f1(said, gold) == float(bool(normalise(gold)))
    assert normalise(normalise(said)) == normalise(said) or "’" in said or not said.isascii()


@given(st.text(), st.lists(st.text(), min_size=1, max_size=4))
def test_one_more_acceptable_answer_never_lowers_a_score(said: str, golds: list[str]) -> None:
    fewer, more = score("ruler_qa1", said, golds[:1]), score("ruler_qa1", said, golds)
    assert all(more[name] >= fewer[name] for name in fewer)
    assert all(0 <= value <= 1 for value in more.values())
