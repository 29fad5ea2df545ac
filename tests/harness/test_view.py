"""`view`: the page served on 127.0.0.1, that folder alone, until Ctrl-C."""

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.serving import HOST, serve

from interrupts import start
from paged import episode, told, write_paged

ENTRY = [sys.executable, "-m", "deltamem_eval.cli.main", "view"]


def answer(port: int, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, body, reply.headers


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A served folder with a page and a folder in it; what is beside it must stay out of reach."""
    folder = tmp_path / "served"
    (folder / "index.samples").mkdir(parents=True)
    (folder / "index.html").write_text("<p>page")
    (folder / "index.samples" / "0000.js").write_text("part")
    (tmp_path / "secret").write_text("secret")
    with serve(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_page_and_its_side_files_are_served(port: int) -> None:
    status, body, headers = answer(port, "/")
    assert (status, body) == (200, b"<p>page")
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert answer(port, "/index.samples/0000.js")[:2] == (200, b"part")


@pytest.mark.parametrize(
    "path", ["/../secret", "/%2e%2e/secret", "/index.samples/../../secret", "//etc/passwd", "/index.samples/"]
)
def test_nothing_else_is(path: str, port: int) -> None:
    assert answer(port, path)[0] == 404


def test_requests_under_another_name_are_refused(port: int) -> None:
    assert answer(port, "/", Host=f"localhost:{port}")[0] == 200
    assert answer(port, "/", Host=f"example.org:{port}")[0] == 403
    assert answer(port, "/", Host="127.0.0.1")[0] == 403


def test_only_this_machine_is_listened_to_and_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with serve(tmp_path, 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(UserError, match=f"port {server.server_port} cannot be had"):
            serve(tmp_path, server.server_port)


def test_the_command_shows_a_run_until_it_is_interrupted(tmp_path: Path) -> None:
    episodes = [episode(number) for number in range(3)]
    run = write_paged(tmp_path / "run", episodes, [told(episodes, "vanilla", right=[0, 1])])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = start(
        [*ENTRY, str(run), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert process.stdout
    line = process.stdout.readline()
    address = line.split()[0]
    assert address.startswith("http://127.0.0.1:"), process.communicate()[1]
    status, body, _ = answer(int(address.rstrip("/").rsplit(":", 1)[1]), "/")
    assert status == 200
    assert b"fact 0 of 0 is value0." in body
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "ended\n")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone"], "gone: no such folder"),
        (["."], "neither a run's folder"),
        ([".", "--port", "99999"], "--port is a number from 0 to 65535"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*ENTRY, *arguments, "--no-browser"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
