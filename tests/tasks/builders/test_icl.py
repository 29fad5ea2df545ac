"""In-context-learning rows: balance, permuted labels, held-out questions, budgets; and the readers."""

import json
from collections import Counter
from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.builders import corpora, icl
from deltamem_eval.tasks.builders.common import Settings, key
from deltamem_eval.tasks.builders.corpora import Corpus, Example
from deltamem_eval.tasks.builders.describe import parse_labelled
from deltamem_eval.tasks.memory_agent_bench.rows import check_row, episode_from_row

from shared import shared


def words(text: str) -> int:
    return len(text.split())


CORPUS = Corpus(
    tuple(
        Example(f"utterance {n} of {name}", name) for name in "abcde" for n in range(3 if name == "e" else 20)
    ),
    (
        *(Example(f"question {n} on {name}", name) for name in "abcde" for n in range(10)),
        Example("Utterance 3, of A!", "a"),
        Example("question 1 on b", "b"),
        Example("something else", "z"),
    ),
)
SETTINGS = Settings(tokens=300, questions=20, count=words, seed=3, resamples=3)


def names_of(row: dict) -> dict[str, str]:
    """Each utterance's label number in the context."""
    lines = row["context"].splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=True))


def test_shots_are_balanced_and_within_the_budget() -> None:
    for row in icl.build("toy", CORPUS, SETTINGS).rows:
        check_row(row, "row")
        shots = parse_labelled(row["context"]).shots
        assert len(shots) == 5
        assert max(shots.values()) - min(shots.values()) <= 1
        assert 300 - 6 * 2 < words(row["context"]) <= 300
        count = sum(shots.values())
        assert row["metadata"]["source"] == f"icl_toy_{count}shot_balance"
        assert row["metadata"]["qa_pair_ids"][4] == f"icl_toy_{count}shot_balance_no4"
        assert row["metadata"]["chance"] == [0.2] * 20
        assert row["metadata"]["associations"] == [5] * 20
        repeated = Counter(row["context"].splitlines()[::2])
        assert row["metadata"]["shots_repeated"] == sum(n - 1 for n in repeated.values()) > 0
        assert all(text.endswith("of e") for text, n in repeated.items() if n > 1)
        assert (
            "".join(chunk.text for chunk in episode_from_row(row, split="s", index=0).chunks)
            == row["context"]
        )


def test_labels_are_permuted_by_the_seed_and_kept_within_a_row() -> None:
    rows = icl.build("toy", CORPUS, SETTINGS).rows
    orders = []
    for row in rows:
        order = row["metadata"]["label_names"]
        assert sorted(order) == list("abcde")
        for text, label in names_of(row).items():
            assert label == f"label: {order.index(text[-1])}"
        for question, answers in zip(row["questions"], row["answers"], strict=True):
            assert answers == [str(order.index(question[-1]))]
        orders.append(tuple(order))
    assert len(set(orders)) == 3
    assert len({row["metadata"]["source"] for row in rows}) == 1
    assert len({row["context"] for row in rows}) == 3


def test_questions_are_held_out() -> None:
    pool = icl.held_out(CORPUS)
    assert (len(pool.examples), pool.in_training, pool.repeated, pool.unlabelled) == (50, 1, 1, 1)
    assert [note.split()[0] for note in pool.notes()] == ["1", "1", "1"]
    for row in icl.build("toy", CORPUS, SETTINGS).rows:
        shown = {key(text) for text in names_of(row)}
        assert not shown & {key(question) for question in row["questions"]}
        assert len(set(row["questions"])) == 20


def test_rows_depend_on_nothing_but_the_settings() -> None:
    assert icl.build("toy", CORPUS, SETTINGS) == icl.build("toy", CORPUS, SETTINGS)
    alone = icl.build("toy", CORPUS, Settings(300, 20, words, seed=4)).rows[0]
    among = icl.build("toy", CORPUS, SETTINGS).rows[1]
    assert alone["questions"] == among["questions"]
    assert alone["context"].startswith(among["context"])


def test_a_tokenizer_that_takes_the_whole_otherwise_keeps_the_budget() -> None:
    def dear(text: str) -> int:
        return words(text) + (100 if text.count("\n") > 2 else 0)

    row = icl.build("toy", CORPUS, Settings(300, 5, dear)).rows[0]
    assert dear(row["context"]) <= 300
    shots = parse_labelled(row["context"]).shots.values()
    assert max(shots) - min(shots) <= 1


def test_too_little_is_refused() -> None:
    with pytest.raises(UserError, match="51 questions asked for, but only 50 held-out"):
        icl.build("toy", CORPUS, Settings(300, 51, words))
    with pytest.raises(UserError, match="20 tokens hold 3 shots, fewer than one for each of 5 labels"):
        icl.build("toy", CORPUS, Settings(20, 5, words))


def test_banking_texts_may_hold_newlines(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('text,category\n"a, b\nc",x\nd,y\n')
    (tmp_path / "test.csv").write_text("text,category\ne,y\n")
    found = corpora.banking77([tmp_path])
    assert found == Corpus((Example("a, b c", "x"), Example("d", "y")), (Example("e", "y"),))
    assert corpora.banking77([tmp_path / "test.csv", tmp_path / "train.csv"]) == found


def test_clinc_takes_out_of_scope_as_a_label(tmp_path: Path) -> None:
    value = {
        "train": [["a", "x"]],
        "oos_train": [["b", "oos"]],
        "val": [["c", "x"]],
        "oos_val": [["d", "oos"]],
    }
    file = tmp_path / "data_full.json"
    file.write_text(json.dumps({**value, "test": [["t", "x"]], "oos_test": []}))
    found = corpora.clinc150([tmp_path])
    assert found.train == (Example("a", "x"), Example("b", "oos"))
    assert found.held_out == (Example("c", "x"), Example("d", "oos"))
    assert corpora.clinc150([file]) == found
    file.write_text(json.dumps({"train": value["train"], "val": value["val"]}))
    assert corpora.clinc150([file]).train == (Example("a", "x"),)


def test_nlu_reads_a_fold_and_hwu64(tmp_path: Path) -> None:
    (tmp_path / "fold_train.csv").write_text("wake me,alarm_set\n")
    (tmp_path / "fold_test.csv").write_text(
        "answerid;scenario;intent;answer_annotation;answer_from_anno;answer_from_user\n"
        '1;alarm;query;"[x : my] alarms";"my alarms";"<My alarms>"\n'
    )
    found = corpora.nlu([tmp_path])
    assert found == Corpus((Example("wake me", "alarm_set"),), (Example("my alarms", "alarm_query"),))
    for name, example in (("train", found.train[0]), ("test", found.held_out[0])):
        (tmp_path / "hwu" / name).mkdir(parents=True)
        (tmp_path / "hwu" / name / "seq.in").write_text(f"{example.text}\n")
        (tmp_path / "hwu" / name / "label").write_text(f"{example.label}\n")
    assert corpora.nlu([tmp_path / "hwu"]) == found


def test_trec_reads_latin_1_coarse_and_fine(tmp_path: Path) -> None:
    (tmp_path / "train_5500.label").write_bytes("HUM:ind Who is Zo\u00eb ?\n".encode("latin-1"))
    (tmp_path / "TREC_10.label").write_text("NUM:dist How far ?\n\n")
    assert corpora.trec_fine([tmp_path]).train == (Example("Who is Zo\u00eb ?", "HUM:ind"),)
    assert corpora.trec_coarse([tmp_path]).held_out == (Example("How far ?", "NUM"),)


REAL = [
    ("banking77", corpora.banking77, ("banking77",), 10003, 3080, 77, 25 + 4),
    ("nlu", corpora.nlu, ("nlu_eval",), 9960, 1076, 64, 0),
    ("nlu", corpora.nlu, ("nlu_eval", "hwu64"), 8954, 1076, 64, 0),
    ("trec_coarse", corpora.trec_coarse, ("trec",), 5452, 500, 6, 11),
    ("trec_fine", corpora.trec_fine, ("trec",), 5452, 500, 50, 11),
]


@pytest.mark.parametrize(("stem", "read", "parts", "train", "test", "labels", "left_out"), REAL)
def test_the_real_files(stem, read, parts, train, test, labels, left_out) -> None:  # type: ignore[no-untyped-def]
    corpus = read([shared("data", *parts)])
    assert (len(corpus.train), len(corpus.held_out)) == (train, test)
    pool = icl.held_out(corpus)
    assert len(pool.examples) == test - left_out
    for row in icl.build(stem, corpus, Settings(40_000, 100, words, resamples=2)).rows:
        check_row(row, stem)
        context = parse_labelled(row["context"])
        assert len(context.shots) == labels
        assert max(context.shots.values()) - min(context.shots.values()) <= 1
        assert words(row["context"]) <= 40_000
        assert not {key(text) for text in context.utterances} & {key(text) for text in row["questions"]}
