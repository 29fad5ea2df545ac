"""Any OpenAI-compatible chat endpoint, asked with patience; no library beyond the standard one."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException

KEY_VARIABLE = "DELTAMEM_EVAL_JUDGE_KEY"
_AGAIN = (408, 409, 429, 500, 502, 503, 504)


class EndpointError(Exception):
    """The endpoint did not answer, or not as one; the message says what it did."""


@dataclass(frozen=True)
class Endpoint:
    """A chat model. url: up to and without /chat/completions. timeout: seconds a request. tries: requests
    before giving up, the pause doubling from `pause` seconds. The key is read from DELTAMEM_EVAL_JUDGE_KEY.
    """

    url: str
    model: str
    timeout: float = 60.0
    tries: int = 5
    pause: float = 1.0

    def ask(self, prompt: str, max_tokens: int) -> str:
        """The reply to one user message at temperature 0. Raises EndpointError after the last try."""
        problem = ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return self._once(prompt, max_tokens)
            except urllib.error.HTTPError as error:
                problem = f"{self.url} answered {error.code} {error.reason}"
                if error.code not in _AGAIN:
                    break
            except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
                problem = f"{self.url}: {type(error).__name__}: {error}"
        raise EndpointError(problem)

    def _once(self, prompt: str, max_tokens: int) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if KEY_VARIABLE in os.environ:
            headers["Authorization"] = f"Bearer {os.environ[KEY_VARIABLE]}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode("utf-8"), headers
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            value = json.loads(response.read().decode("utf-8"))
        return str(value["choices"][0]["message"]["content"])


def check_url(url: str) -> str:
    """The address. Raises UserError for one that is not http or https."""
    from deltamem_eval.errors import UserError

    if not url.startswith(("http://", "https://")):
        raise UserError(f"--judge takes an http or https address, not {url!r}")
    return url
