"""A folder's files over HTTP, for the browsers of this machine alone."""

from __future__ import annotations

import os
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from deltamem_eval.errors import UserError

HOST = "127.0.0.1"


def serve(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of one folder's files on 127.0.0.1. Raises UserError for a port that cannot be had."""
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise UserError(f"port {port} cannot be had: {error.strerror or error}; leave out --port") from None


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder: no lists of folders, nothing kept by the browser, no line for each request."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Refuse requests under another name: a page elsewhere may point a name of its own to 127.0.0.1."""
        assert isinstance(self.server, ThreadingHTTPServer)
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        return super().send_head()

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """Answer as for a file that is not there."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Add what keeps other pages from framing or reading this one, and old pages from being shown."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""
