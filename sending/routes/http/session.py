"""A requests session that a provider's server cannot hang, flood or lead astray."""

from __future__ import annotations

import time
from typing import Any

import requests
from requests.utils import get_environ_proxies

# Answers are some hundred bytes; whoever sends megabytes is no mail API.
MAX_ANSWER_BYTES = 1_000_000


class AnswerTooLong(requests.RequestException):
    """The server's answer does not end."""


class BoundedSession(requests.Session):
    """Follows no redirect, reads no .netrc, takes answers of bounded size in bounded time.

    A redirect would hand key and message to another host, or repeat the call; `requests` alone
    bounds the time between two bytes only, so that a dripping server could hold a thread for hours.
    """

    def __init__(self, *, connect_seconds: float, total_seconds: float) -> None:
        super().__init__()
        self.trust_env = False  # a .netrc would replace the Authorization header
        self._connect_seconds = connect_seconds
        self._total_seconds = total_seconds

    def request(self, method: Any, url: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Make one call; raises requests' exceptions."""
        deadline = time.monotonic() + self._total_seconds
        kwargs["timeout"] = (self._connect_seconds, self._total_seconds)
        kwargs["allow_redirects"] = False
        kwargs["stream"] = True
        kwargs.setdefault("proxies", get_environ_proxies(url))
        response = super().request(method, url, **kwargs)
        try:
            response._content = _read(response, deadline)  # noqa: SLF001 (its only door)
        finally:
            response.close()
        return response


def _read(response: requests.Response, deadline: float) -> bytes:
    found = bytearray()
    # read1 returns what is there, so that the clock is looked at between drips.
    while chunk := response.raw.read1(16_384, decode_content=True):
        found += chunk
        if len(found) > MAX_ANSWER_BYTES:
            raise AnswerTooLong("the answer is too long")
        if time.monotonic() > deadline:
            raise requests.ReadTimeout("the answer did not end in time")
    return bytes(found)
