"""Judging through a real HTTP endpoint: verdicts, retries, nonsense, and what stays unjudged."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.endpoint import KEY_VARIABLE, Endpoint, EndpointError, check_url
from deltamem_eval.errors import UserError
from deltamem_eval.files import take_lock
from deltamem_eval.judging import REPLIES, judge_run
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.store import RunStore, Sample, read_cells
from deltamem_eval.tasks.memory_agent_bench.rows import episode_from_row
from deltamem_eval.tasks.memory_agent_bench.rubrics import (
    NoKeyPointsError,
    NonsenseError,
    judged_chat,
    judged_summary,
)
from deltamem_eval.tasks.memory_agent_bench.task import RowsTask
from deltamem_eval.tokens import Counter

from judge_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_a_failing_endpoint_is_asked_again_and_then_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    statuses = iter([503, 429, 200])
    server.reply = lambda _: (next(statuses), "fine")
    endpoint = Endpoint(server.url, "m", tries=3, pause=0.0)
    assert endpoint.ask("hello", 7) == "fine"
    assert server.asked[-1]["messages"] == [{"role": "user", "content": "hello"}]
    assert (server.asked[-1]["temperature"], server.asked[-1]["max_tokens"]) == (0, 7)
    assert server.headers[-1]["Authorization"] == "Bearer secret"
    server.reply = lambda _: (500, "")
    with pytest.raises(EndpointError, match="answered 500"):
        endpoint.ask("hello", 7)
    assert len(server.asked) == 6
    server.reply = lambda _: (401, "")
    with pytest.raises(EndpointError, match="answered 401"):
        endpoint.ask("hello", 7)
    assert len(server.asked) == 7  # no use asking again
    with pytest.raises(EndpointError):
        Endpoint("http://127.0.0.1:9", "m", timeout=0.2, tries=1).ask("x", 1)
    with pytest.raises(UserError, match="http or https"):
        check_url("ftp://x")


def test_a_key_s_white_space_is_taken_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " secret\r\n")
    assert Endpoint(server.url, "m", tries=1).ask("hello", 7) == "yes"
    assert server.headers[-1]["Authorization"] == "Bearer secret"
    monkeypatch.setenv(KEY_VARIABLE, "\n")
    assert Endpoint(server.url, "m", tries=1).ask("hello", 7) == "yes"
    assert "Authorization" not in server.headers[-1]


@pytest.mark.parametrize("key", ["sec\nret", "sec\x7fret", "secrét"])
def test_a_key_that_no_request_can_hold_is_refused_unseen(
    key: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint(server.url, "m")
    monkeypatch.setenv(KEY_VARIABLE, key)
    for refused in (lambda: Endpoint(server.url, "m"), lambda: endpoint.ask("hello", 7)):
        with pytest.raises(UserError, match=f"^{KEY_VARIABLE} must be a key of printable ASCII") as caught:
            refused()
        assert "ret" not in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:x/v1", "http://127.0.0.1:9/a b", "http://127.0.0.1:9/é"])
def test_a_request_that_cannot_be_made_is_made_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with pytest.raises(EndpointError, match=r"cannot be asked \(\w+\)$"):
        Endpoint(url, "m", pause=1e9).ask("hello", 7)


@pytest.mark.parametrize("content", [None, "", " \n", ["yes"]])
def test_a_reply_without_a_text_is_an_endpoint_error(content: Any, server: Server) -> None:
    server.reply = lambda _: (200, content)
    with pytest.raises(EndpointError, match="ValueError: the reply holds no text"):
        Endpoint(server.url, "m", tries=2, pause=0.0).ask("hello", 7)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("Yes.", 1.0),
        ("no", 0.0),
        ("NO, it is not", 0.0),
        ("**No**", 0.0),
        ('Verdict: "no".', 0.0),
        ("No\nIt names another town", 0.0),
        ("no - it names another town", 0.0),
        ("The answer is no", 0.0),
        ("I have no idea. No.", 0.0),
        ("Yes. There is no contradiction.", 1.0),
        ("yes and no", 1.0),
        ("**Yes**", 1.0),
        ("No. The response is correct only in part", 0.0),
    ],
)
def test_chat_verdicts(reply: str, wanted: float) -> None:
    assert judged_chat(lambda prompt, most: reply, "q", ["g"], "a", "multi-session", False) == wanted


def test_prompts_go_by_the_question_s_type() -> None:
    asked = []

    def ask(prompt: str, most: int) -> str:
        asked.append(prompt)
        return "yes"

    for kind, abstain in (
        ("temporal-reasoning", False),
        ("knowledge-update", False),
        ("multi-session", True),
    ):
        judged_chat(ask, "When?", ["May"], "June", kind, abstain)
    assert "off by one" in asked[0]
    assert "former values" in asked[1]
    assert "cannot be answered" in asked[2]
    assert all("Question: When?\nRight answer: May\nResponse: June" in prompt for prompt in asked)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "maybe",
        "It is not clear",
        "Nothing in the notes",
        "I have no idea",
        "I have **no** idea.",
        "No idea!",
        "no-one can tell",
        "There is no mention of a town.",
        "Correct.",
        "Incorrect.",
    ],
)
def test_replies_that_say_none_of_what_was_asked_for_are_nonsense(reply: str) -> None:
    with pytest.raises(NonsenseError, match="neither yes nor no"):
        judged_chat(lambda *_: reply, "q", ["g"], "a", "", False)


def test_summary_verdicts_by_hand() -> None:
    replies = iter(['{"fluency": 1}', 'so {"recall": 2}', '{"sentence_count": 4, "precision": 3}'])
    found = judged_summary(lambda *_: next(replies), ["gold"], "a", ["p", "q", "r"])
    assert found["judge_f1"] == pytest.approx(2 * (2 / 3) * (3 / 4) / (2 / 3 + 3 / 4))
    replies = iter(['{"fluency": 0}', '{"recall": 3}', '{"sentence_count": 1, "precision": 1}'])
    assert judged_summary(lambda *_: next(replies), ["gold"], "a", ["p", "q", "r"])["judge_f1"] == 0.0
    replies = iter(['{"fluency": 1}', '{"recall": 9}'])
    with pytest.raises(NonsenseError, match="recall"):
        judged_summary(lambda *_: next(replies), ["gold"], "a", ["p", "q", "r"])


@pytest.mark.parametrize("fluency", [0.5, 2, -1])
def test_a_fluency_that_is_neither_0_nor_1_is_nonsense(fluency: float) -> None:
    with pytest.raises(NonsenseError, match="fluency"):
        judged_summary(lambda *_: json.dumps({"fluency": fluency}), ["gold"], "a", ["p"])


@pytest.mark.parametrize(
    "last",
    [
        '{"sentence_count": Infinity, "precision": Infinity}',
        '{"sentence_count": NaN, "precision": 1}',
        '{"sentence_count": "inf", "precision": 1}',
        f'{{"sentence_count": 1{"0" * 400}, "precision": 1}}',
        '{"sentence_count": 2, "precision": NaN}',
        '{"sentence_count": 0, "precision": 0}',
        '{"sentence_count": 0.5, "precision": 0.5}',
    ],
)
def test_counts_that_no_summary_has_are_nonsense(last: str) -> None:
    replies = iter(['{"fluency": 1}', '{"recall": 1}', last])
    with pytest.raises(NonsenseError, match="within its bounds"):
        judged_summary(lambda *_: next(replies), ["gold"], "A summary.", ["p"])


def test_an_empty_summary_may_have_no_sentence() -> None:
    replies = iter(['{"fluency": 1}', '{"recall": 0}', '{"sentence_count": 0, "precision": 0}'])
    found = judged_summary(lambda *_: next(replies), ["gold"], " \n", ["p"])
    assert found == {"judge_fluency": 1, "judge_recall": 0, "judge_precision": 0, "judge_f1": 0}


def test_a_summary_without_key_points_is_not_judged() -> None:
    with pytest.raises(NoKeyPointsError, match="no key points"):
        judged_summary(lambda *_: pytest.fail("asked"), ["gold"], "a", [])


ROW = {
    "context": "['Chat Time: 2023/05/20', [{'role': 'user', 'content': 'I moved to Oslo.'}]]",
    "questions": ["Now Answer the Question: Where do I live?", "And my cat?", "And my dog?"],
    "answers": [["Oslo"], ["no information"], ["Rex"]],
    "metadata": {
        "source": "longmemeval_s*",
        "question_ids": ["a", "b_abs", "c"],
        "question_types": ["knowledge-update", "multi-session", "multi-session"],
    },
}


def answered(folder: Path, row: dict, answers: tuple[str, ...], **options: str) -> Path:
    """A finished run of a row of answers that only a judge can score. options: of task rows."""
    file = folder / "rows.json"
    file.write_text(json.dumps([row]))
    request = {
        "methods": ["vanilla"],
        "task": "rows",
        "rows": str(file),
        "windows": [8],
        "seeds": [0],
        "controls": False,
        "task_options": options,
    }
    store = RunStore.open(folder / "run", request, {})
    task = RowsTask(file, **options)
    task.prepare(Counter("m", 100_000))
    identity = {"method": "vanilla", "control": None, "task": "rows", "window": 8, "seed": 0, "model": "m"}
    cell = store.cell(identity | {"data": task.identity(), "weights": "w", "dtype": "float32", "limit": None})
    episode = episode_from_row(row, split="rows", index=0)
    cell.append(
        [
            Sample(
                episode=episode.id,
                query=query.id,
                source=episode.source,
                category=episode.category,
                cluster="c",
                status="ok",
                answer=text,
                targets=list(query.targets),
                target_hash="t",
                metrics={"accuracy": 0.0, "unjudged": 1.0},
            )
            for query, text in zip(episode.queries, answers, strict=True)
        ]
    )
    cell.finish({})
    store.close()
    return folder / "run"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of three answers that only a judge can score."""
    return answered(tmp_path, ROW, ("In Oslo now", "unknown", "Rex"))


def not_ok(run: Path) -> tuple[object, object]:
    table = summary_table([run])
    keys = [column.key for column in table.columns]
    (row,) = table.rows
    return row[keys.index("accuracy")].value, row[keys.index("not_ok")].value


def test_a_run_is_judged_once_and_nonsense_stays_unjudged(run: Path, server: Server) -> None:
    assert not_ok(run) == (0.0, "3 unjudged")

    def reply(body: dict) -> tuple[int, str]:
        text = body["messages"][0]["content"]
        return 200, "maybe" if "dog" in text else "yes" if "Oslo" in text else "no"

    server.reply = reply
    endpoint, notes = Endpoint(server.url, "m", pause=0.0), []
    assert judge_run(run, endpoint, notes.append) == (2, 1)
    assert len(notes) == 3
    assert "no verdict" in notes[0]
    assert not_ok(run) == (pytest.approx(1 / 3), "1 unjudged")
    asked = len(server.asked)
    assert judge_run(run, endpoint, notes.append) == (0, 1)
    assert len(server.asked) == asked + 3  # nonsense is asked for again
    server.reply = lambda _: (200, "yes")
    assert judge_run(run, endpoint) == (1, 0)
    assert not_ok(run) == (pytest.approx(2 / 3), "0")
    ((_, samples),) = read_cells(run)
    assert [sample.metrics["judge_right"] for sample in samples] == [1.0, 0.0, 1.0]


def test_a_dead_judge_leaves_everything_as_it_was(run: Path, server: Server) -> None:
    server.reply = lambda _: (500, "")
    notes: list[str] = []
    assert judge_run(run, Endpoint(server.url, "m", tries=2, pause=0.0), notes.append) == (0, 3)
    assert all("answered 500" in note for note in notes)
    assert not_ok(run) == (0.0, "3 unjudged")


def test_a_judge_that_hangs_is_asked_again_and_its_answers_stay_unjudged(run: Path, server: Server) -> None:
    over = threading.Event()
    server.reply = lambda _: (over.wait(60) and 200, "yes")
    notes: list[str] = []
    try:
        endpoint = Endpoint(server.url, "m", timeout=0.5, tries=2, pause=0.0)
        assert judge_run(run, endpoint, notes.append) == (0, 3)
    finally:
        over.set()
    assert len(server.asked) == 3 * 2
    assert all("TimeoutError: timed out" in note for note in notes)
    assert not_ok(run) == (0.0, "3 unjudged")
    assert not list(run.rglob("verdicts.jsonl"))


def test_a_judge_is_given_time_between_replies_that_cannot_be_read(
    run: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("deltamem_eval.endpoint.time.sleep", slept.append)
    server.reply = lambda _: (200, "I have no idea")
    assert judge_run(run, Endpoint(server.url, "m", pause=0.5)) == (0, 3)
    assert slept == [0.5, 1.0] * 3  # before the second and the third try
    assert not_ok(run) == (0.0, "3 unjudged")


SUMMARY = {"context": "A tale.", "questions": ["Summarise."], "answers": [["It is told."]]}


@pytest.mark.parametrize("keypoints", [None, [], [" "]])
def test_a_summary_without_key_points_stays_unjudged(
    keypoints: list[str] | None, tmp_path: Path, server: Server
) -> None:
    metadata = {"source": "infbench_sum_eng_shots2", "keypoints": keypoints}
    run, notes = answered(tmp_path, {**SUMMARY, "metadata": metadata}, ("A summary.",)), []
    assert judge_run(run, Endpoint(server.url, "m"), notes.append) == (0, 1)
    assert notes == ["rows/0/q000 cannot be judged: its row names no key points"]
    assert server.asked == []


@pytest.mark.parametrize(("name", "abstains"), [("b_abs", True), ("b_abs_2", True), ("b", False)])
def test_an_id_with_abs_in_it_is_of_a_question_without_an_answer(
    name: str, abstains: bool, tmp_path: Path, server: Server
) -> None:
    metadata = {"source": "longmemeval_s*", "question_ids": [name]}
    row = {"context": "[]", "questions": ["Where?"], "answers": [["Oslo"]], "metadata": metadata}
    judge_run(answered(tmp_path, row, ("Oslo",)), Endpoint(server.url, "m"))
    (asked,) = server.asked
    assert ("cannot be answered" in asked["messages"][0]["content"]) == abstains


def test_the_same_judge_is_asked_the_same_thing_once(run: Path, server: Server) -> None:
    assert judge_run(run, Endpoint(server.url, "m")) == (3, 0)
    (verdicts,) = run.rglob("verdicts.jsonl")
    verdicts.unlink()
    assert judge_run(run, Endpoint(server.url, "m")) == (3, 0)
    assert len(server.asked) == 3
    verdicts.unlink()
    assert judge_run(run, Endpoint(server.url, "other")) == (3, 0)
    assert len(server.asked) == 6


def test_an_unreadable_reply_that_was_stored_before_is_asked_for_again(run: Path, server: Server) -> None:
    judge_run(run, Endpoint(server.url, "m"))
    (verdicts,) = run.rglob("verdicts.jsonl")
    verdicts.unlink()
    file = run / REPLIES
    file.write_text(file.read_text().replace('"reply": "yes"', '"reply": "None"'))
    assert judge_run(run, Endpoint(server.url, "m")) == (3, 0)
    assert len(server.asked) == 6


def test_a_run_that_somebody_works_on_is_not_judged(run: Path, server: Server) -> None:
    with closing(take_lock(run)), pytest.raises(UserError, match="in use by another process"):
        judge_run(run, Endpoint(server.url, "m"))
    assert server.asked == []
    assert not list(run.rglob("verdicts.jsonl"))
    assert judge_run(run, Endpoint(server.url, "m")) == (3, 0)


def test_a_damaged_file_of_replies_is_told_in_a_line(run: Path) -> None:
    (run / REPLIES).write_text('{"key": "k"}\n')
    with pytest.raises(UserError, match=r"^.*judge_replies\.jsonl is damaged: a line is no stored reply.*$"):
        judge_run(run, Endpoint("http://127.0.0.1:9", "m"))


def test_an_empty_reply_is_not_stored(run: Path, server: Server) -> None:
    server.reply = lambda _: (200, "")
    assert judge_run(run, Endpoint(server.url, "m", tries=1)) == (0, 3)
    assert not (run / REPLIES).exists()


def test_torn_last_lines_are_cut_off_before_more_is_written(run: Path, server: Server) -> None:
    endpoint = Endpoint(server.url, "m")
    assert judge_run(run, endpoint) == (3, 0)
    (verdicts,) = run.rglob("verdicts.jsonl")
    whole = {file: file.read_text() for file in (verdicts, run / REPLIES)}
    for file, text in whole.items():
        file.write_text(text[:-9])
    assert judge_run(run, endpoint) == (1, 0)
    assert {file: file.read_text() for file in whole} == whole


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answers": [["Bergen"], ["no information"], ["Rex"]]}, r"with other data .*\(sha256 differ\)"),
        ({"context": "[]"}, r"with other data .*\(sha256 differ\)"),
    ],
)
def test_other_data_than_were_asked_of_are_refused(
    changes: dict, words: str, run: Path, server: Server
) -> None:
    (run.parent / "rows.json").write_text(json.dumps([ROW | changes]))
    with pytest.raises(UserError, match=words):
        judge_run(run, Endpoint(server.url, "m"))
    assert server.asked == []


def test_other_acceptable_answers_than_were_asked_with_are_refused(run: Path, server: Server) -> None:
    (file,) = run.rglob("samples.jsonl")
    file.write_text(file.read_text().replace('"targets":["Rex"]', '"targets":["Max"]'))
    with pytest.raises(
        UserError, match="rows/0/q002 has other acceptable answers now than when it was asked"
    ):
        judge_run(run, Endpoint(server.url, "m"))
    assert server.asked == []


def test_what_a_model_decides_is_not_compared(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltamem_eval.tasks.memory_agent_bench.task.official_counter", lambda: None)
    run = answered(tmp_path, ROW, ("In Oslo now", "unknown", "Rex"), protocol="official")
    assert judge_run(run, Endpoint(server.url, "m")) == (3, 0)
    (tmp_path / "rows.json").write_text(json.dumps([ROW, ROW]))
    (verdicts,) = run.rglob("verdicts.jsonl")
    verdicts.unlink()
    with pytest.raises(UserError, match=r"\(sha256 differ\)"):
        judge_run(run, Endpoint(server.url, "m"))
