"""`run --judge`: verdicts right after the run, by the code of `judge`; a failing judge changes nothing."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltamem_eval import endpoint
from deltamem_eval.cli.main import app
from deltamem_eval.endpoint import Endpoint, EndpointError
from deltamem_eval.errors import UserError
from deltamem_eval.judging import GIVE_UP, REPLIES, judge_run
from typer.testing import CliRunner, Result

from judge_server import Server
from stored import assert_published

ROWS = [
    {
        "context": f"['Chat Time: 2023/05/2{day}', [{{'role': 'user', 'content': 'I moved to Oslo.'}}]]",
        "questions": ["Where do I live?", "And my cat?", "And my dog?"],
        "answers": [["Oslo"], ["no information"], ["Rex"]],
        "metadata": {
            "source": "longmemeval_s*",
            "question_ids": ["a", "b_abs", "c"],
            "question_types": ["knowledge-update", "multi-session", "multi-session"],
        },
    }
    for day in range(2)
]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(endpoint.time, "sleep", lambda _: None)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    made = Server()
    yield made
    made.close()


def cli(*arguments: object) -> Result:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exception is None or isinstance(done.exception, UserError | SystemExit), done.exception
    return done


def run(out: str, *more: object) -> Result:
    return cli(
        "run", "--method", "vanilla", "--rows", "rows.json", "--window", 20, "--no-controls", "--quiet",
        "--json", "--out", out, *more,
    )  # fmt: skip


def cells(done: Result) -> tuple[float, str]:
    """Accuracy and what is not ok, of the run's one row."""
    (row,) = json.loads(done.stdout)["rows"]
    return row["accuracy"]["value"], row["not_ok"]["value"]


def test_a_run_is_judged_as_the_command_would(server: Server) -> None:
    assert cells(run("plain")) == (0.0, "6 unjudged")
    assert server.asked == []
    server.reply = lambda body: (
        200,
        "yes" if "Right answer: Rex" in body["messages"][0]["content"] else "no",
    )
    done = run("judged", "--judge", server.url, "--judge-model", "m")
    assert done.exit_code == 0
    assert cells(done) == (pytest.approx(1 / 3), "0")
    assert "note: 6 answers judged by m, 0 left unjudged" in done.stderr
    later = cli("judge", "plain", "--judge", server.url, "--judge-model", "m")
    assert later.stdout == "6 answers judged by m, 0 left unjudged\n"
    verdicts = [next(Path(name).rglob("verdicts.jsonl")).read_text() for name in ("plain", "judged")]
    assert verdicts[0] == verdicts[1]
    assert_published(Path("judged"), "run", "cell", "context", "sample", "prompt", "verdict")
    asked = len(server.asked)
    assert cells(run("judged", "--judge", server.url, "--judge-model", "m")) == (pytest.approx(1 / 3), "0")
    assert len(server.asked) == asked


def test_a_failing_judge_leaves_a_good_run_unjudged(server: Server) -> None:
    server.reply = lambda _: (500, "")
    done = run("run", "--judge", server.url, "--judge-model", "m")
    assert done.exit_code == 0
    assert cells(done) == (0.0, "6 unjudged")
    assert f"the judge failed on {GIVE_UP} answers in a row and is asked no more" in done.stderr
    assert "note: 0 answers judged by m, 6 left unjudged" in done.stderr
    assert len(server.asked) == GIVE_UP * Endpoint.tries


def test_one_bad_answer_does_not_stop_the_judge(server: Server) -> None:
    run("run")
    server.reply = lambda body: (400, "") if "cat" in body["messages"][0]["content"] else (200, "no")
    assert judge_run(Path("run"), Endpoint(server.url, "m")) == (4, 2)


def test_what_stops_judging_is_a_note_and_no_failure(server: Server) -> None:
    run("run")
    (Path("run") / REPLIES).write_text("not JSON\n")
    done = run("run", "--judge", server.url, "--judge-model", "m")
    assert done.exit_code == 0
    assert cells(done) == (0.0, "6 unjudged")
    assert "note: run stays unjudged: run/judge_replies.jsonl is damaged" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--judge", "http://x/v1"), "--judge-model NAME is missing"),
        (("--judge-model", "m"), "--judge URL is missing"),
        (("--judge", "ftp://x", "--judge-model", "m"), "http or https"),
    ],
)
def test_half_a_judge_is_refused_before_the_run(
    arguments: tuple[str, ...], words: str, server: Server
) -> None:
    done = run("run", *arguments)
    assert words in str(done.exception)
    assert not Path("run").exists()


def test_a_server_that_speaks_no_http_is_an_endpoint_error() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def babble() -> None:
        other, _ = listening.accept()
        other.recv(4096)
        other.sendall(b"good day\r\n\r\n")
        other.close()

    threading.Thread(target=babble, daemon=True).start()
    with pytest.raises(EndpointError, match="BadStatusLine"):
        Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", "m", tries=1).ask("x", 1)
    listening.close()


def test_judging_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is .* a run"):
        judge_run(tmp_path, Endpoint("http://127.0.0.1:9", "m"))
