"""Any OpenAI-compatible chat endpoint, asked with patience; no library beyond the standard one."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, InvalidURL

from deltamem_eval.errors import UserError

KEY_VARIABLE = "DELTAMEM_EVAL_JUDGE_KEY"
_AGAIN = (408, 409, 429, 500, 502, 503, 504)


class EndpointError(Exception):
    """The endpoint did not answer, or not as one; the message says what it did."""


@dataclass(frozen=True)
class Endpoint:
    """A chat model. url: up to and without /chat/completions. timeout: seconds a request. tries: requests
    before giving up, the pause doubling from `pause` seconds. The key is read from DELTAMEM_EVAL_JUDGE_KEY;
    raises UserError for one that no request can hold.
    """

    url: str
    model: str
    timeout: float = 60.0
    tries: int = 5
    pause: float = 1.0

    def __post_init__(self) -> None:
        _key()

    def ask(self, prompt: str, max_tokens: int) -> str:
        """The reply to one user message at temperature 0, a text that is not blank.

        Raises EndpointError after the last try; UserError as the class does.
        """
        headers = {"Content-Type": "application/json"}
        if key := _key():
            headers["Authorization"] = f"Bearer {key}"
        body = self._body(prompt, max_tokens)
        problem = ""
        for attempt in range(self.tries):
            self.rest(attempt)
            try:
                return _content(self._sent(body, headers))
            except urllib.error.HTTPError as error:
                problem = f"{self.url} answered {error.code} {error.reason}"
                if error.code not in _AGAIN:
                    break
            except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
                problem = f"{self.url}: {type(error).__name__}: {error}"
        raise EndpointError(problem)

    def rest(self, attempt: int) -> None:
        """Wait before the try of that number; the first, 0, is made at once."""
        if attempt:
            time.sleep(self.pause * 2 ** (attempt - 1))

    def _body(self, prompt: str, max_tokens: int) -> bytes:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        return json.dumps(body).encode("utf-8")

    def _sent(self, body: bytes, headers: dict[str, str]) -> bytes:
        """What the endpoint replies. Raises EndpointError for a request that cannot be made."""
        try:
            request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return bytes(response.read())
        except (ValueError, InvalidURL) as error:  # whose text may hold a header, and so the key
            raise EndpointError(f"{self.url} cannot be asked ({type(error).__name__})") from None


def _content(reply: bytes) -> str:
    """The text in a reply's JSON. Raises ValueError, KeyError, IndexError or TypeError without one."""
    content = json.loads(reply.decode("utf-8"))["choices"][0]["message"]["content"]
    if not isinstance(content, str) or not content.strip():
        raise ValueError("the reply holds no text")
    return content


def _key() -> str:
    """The key without white space around it; empty where there is none.

    Raises UserError, without showing it, for one that no header can hold.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY_VARIABLE} must be a key of printable ASCII characters: set it again")
    return key


def check_url(url: str) -> str:
    """The address. Raises UserError for one that is not http or https."""
    if not url.startswith(("http://", "https://")):
        raise UserError(f"--judge takes an http or https address, not {url!r}")
    return url
