"""API traffic of `manage.py bench crash`: a client that asks until it has its 202.

Now and then it goes away before it has read the answer, as a network that breaks makes it do, and
asks again under the same idempotency key; of those, some are never asked again.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field

from django.conf import settings

from sending.management.bench.people import domain_of

_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 0.3
# Of so many requests, one whose answer is not read; of so many of those, one that is given up.
_UNREAD_EVERY, _GIVEN_UP_EVERY = 8, 4


@dataclass(slots=True)
class Accepted:
    """What was asked of the API, and what it has promised: ids as it named them, by recipient."""

    asked: list[str] = field(default_factory=list)  # recipients; each is asked for once
    ids: dict[str, str] = field(default_factory=dict)  # id: recipient
    not_read: int = 0  # answers that the client did not wait for
    statuses: Counter[str] = field(default_factory=Counter)


class Traffic:
    """Sends single messages by the API, `per_second`, until it is told to end.

    A request whose answer was lost is asked again with the same idempotency key, as a careful
    client does: one promise, one message.
    """

    def __init__(self, site_url: str, key: str, *, domains: int, per_second: float) -> None:
        self.accepted = Accepted()
        self._url = f"{site_url}/api/v1/messages"
        self._key = key
        self._domains = domains
        self._interval = 1.0 / per_second
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), daemon=True) for lane in range(2)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let the requests under way get their answers, then end."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, lane: int) -> None:
        number = lane
        while not self._ending.wait(self._interval * len(self._threads)):
            self._insist(f"buyer{number}@{domain_of(number, self._domains)}")
            number += len(self._threads)

    def _insist(self, recipient: str) -> None:
        key = str(uuid.uuid4())
        self.accepted.asked.append(recipient)
        number = int(recipient.partition("@")[0].removeprefix("buyer"))
        if number % _UNREAD_EVERY == _UNREAD_EVERY - 1:
            self._ask_and_leave(recipient, key)
            if number // _UNREAD_EVERY % _GIVEN_UP_EVERY == _GIVEN_UP_EVERY - 1:
                return
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = self._ask(recipient, key)
            if answer is not None:
                self.accepted.ids.update({item["id"]: item["email"] for item in answer})
                return
            time.sleep(_PAUSE_SECONDS)

    def _ask_and_leave(self, recipient: str, key: str) -> None:
        """Send the whole request and hang up at once: what became of it, nobody has told us."""
        request = self._request(recipient, key)
        there = http.client.HTTPConnection(request.host, timeout=_TIMEOUT_SECONDS)
        try:
            there.request("POST", request.selector, request.data, dict(request.header_items()))
            self.accepted.not_read += 1
        except OSError as error:
            self.accepted.statuses[type(error).__name__] += 1
        finally:
            there.close()

    def _request(self, recipient: str, key: str) -> urllib.request.Request:
        body = {
            "from": {"email": "news@bench.example", "name": "Bench"},
            "to": [{"email": recipient}],
            "subject": "Your order",
            "html": "<p>Thank you.</p>",
        }
        return urllib.request.Request(  # noqa: S310 (our own loopback address)
            self._url,
            data=json.dumps(body).encode(),
            headers={
                "Host": settings.PRODUCT_DOMAIN,  # as a proxy in front of the site says it
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                "Idempotency-Key": key,
            },
        )

    def _ask(self, recipient: str, key: str) -> list[dict[str, str]] | None:
        request = self._request(recipient, key)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
                self.accepted.statuses[str(answer.status)] += 1
                messages: list[dict[str, str]] = json.load(answer)["messages"]
                return messages if answer.status == 202 else None
        except urllib.error.HTTPError as error:
            self.accepted.statuses[str(error.code)] += 1
            error.close()
        except (OSError, ValueError) as error:
            self.accepted.statuses[type(error).__name__] += 1
        return None
