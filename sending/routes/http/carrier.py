"""The engine's `Carrier` over a provider's HTTP API: anymail in a few threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

from django.utils.module_loading import import_string

from esp.lib.ids import to_public
from sending.engine.ports import Order, Outcome
from sending.events.models import PROVIDER_ID
from sending.routes.http.letters import RawLetter, field_letter
from sending.routes.http.outcomes import clean, outcome_of_error, outcome_of_status
from sending.routes.providers import Provider
from sending.routes.types import Step

CONNECT_SECONDS = 10.0
TOTAL_SECONDS = 60.0
THREADS = 8


class HttpCarrier:
    """Hands messages to one provider with one key.

    anymail is synchronous, so calls run in threads, each with a kept connection; a call that does
    not come back within `total_seconds` ends as ambiguous. Raises ImportError where the provider
    needs a package that is not installed.
    """

    def __init__(
        self,
        provider: Provider,
        settings: Mapping[str, str],
        *,
        base_url: str,
        threads: int = THREADS,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._provider = provider
        self._options: dict[str, Any] = {
            **settings,
            "api_url": base_url,
            "connect_seconds": connect_seconds,
            "total_seconds": total_seconds,
            # The recipient's status is read below; anymail would raise for some of them.
            "ignore_recipient_status": True,
        }
        self._secrets = tuple(settings[name] for name in provider.secret_names if name in settings)
        self._backend = import_string(provider.backend)
        self._total_seconds = connect_seconds + total_seconds
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"route-{provider.name}")
        self._local = threading.local()

    async def carry(self, order: Order, data: bytes) -> Outcome:
        """Hand `data` over once; returns what came of it and raises only on cancellation."""
        start = time.monotonic()
        call = asyncio.get_running_loop().run_in_executor(self._threads, self._call, order, data)
        try:
            async with asyncio.timeout(self._total_seconds + 5):
                outcome = await call
        except TimeoutError:
            outcome = outcome_of_error(TimeoutError("no answer in time"), at=_now(), secrets=())
        return replace(outcome, timings={"body": time.monotonic() - start})

    def try_key(self) -> Step:
        """Make the provider's cheapest call that needs the key; nothing is sent.

        `is_ok` is None where the provider has no such call.
        """
        title = "Log in with the key"
        if self._provider.check is None and not hasattr(self._backend, "try_key"):
            return Step(title, None, "The provider has no call for that: the first message tells.")
        try:
            backend = self._backend(**self._options)
            backend.open()
            try:
                answer = self._ask(backend)
            finally:
                backend.close()
        except Exception as error:  # whatever a provider answers becomes a value
            outcome = outcome_of_error(error, at=_now(), secrets=self._secrets)
            return Step(title, False, outcome.text)
        return Step(title, not answer, answer or "The provider knows it.")

    def _ask(self, backend: Any) -> str:
        """Return why the key is refused, "" when it is not."""
        if self._provider.check is None:
            return str(backend.try_key())
        check, options = self._provider.check, self._options
        letter: Any = RawLetter(raw=b"", mail_from="a@example.com", rcpt_to="a@example.com")
        letter.metadata = {"message_id": ""}
        # anymail's payload knows how the provider wants its key.
        payload = backend.build_message_payload(letter, {})
        response = backend.session.request(
            check.method,
            urljoin(options["api_url"], check.path.format(**options)),
            headers=payload.headers,
            auth=payload.auth,
            data=check.json.format(**options) or None,
        )
        if response.status_code in check.ok or (check.proof and check.proof in response.text):
            return ""
        said = clean(response.text[:300], self._secrets).strip()
        return f"HTTP {response.status_code}: {said}" if said else f"HTTP {response.status_code}"

    def close(self) -> None:
        """Let the threads end; calls under way come to their end."""
        self._threads.shutdown(wait=False)

    def _call(self, order: Order, data: bytes) -> Outcome:
        try:
            letter = self._letter(order, data)
            backend = self._opened()
            backend.send_messages([letter])
        except Exception as error:  # whatever a provider answers becomes a value
            with contextlib.suppress(Exception):
                self._forget()
            return outcome_of_error(error, at=_now(), secrets=self._secrets)
        found = list(letter.anymail_status.recipients.values())
        status = found[0].status if len(found) == 1 else "unknown"
        number = clean(str(found[0].message_id or ""), self._secrets) if found else ""
        text = f"{self._provider.title}: {status}" + (f"{PROVIDER_ID}{number}" if number else "")
        return outcome_of_status(status, provider=self._provider.name, text=text, at=_now())

    def _letter(self, order: Order, data: bytes) -> Any:
        letter: Any
        if self._provider.takes == "raw":
            letter = RawLetter(raw=data, mail_from=order.mail_from, rcpt_to=order.rcpt_to)
        else:
            letter = field_letter(data, rcpt_to=order.rcpt_to)
        if self._provider.metadata:
            letter.metadata = {"message_id": to_public("msg", order.message_id)}
        if self._provider.tracking:
            # Ours is in the message already.
            letter.track_clicks = letter.track_opens = False
        return letter

    def _opened(self) -> Any:
        """Return this thread's backend with its kept connection."""
        backend = getattr(self._local, "backend", None)
        if backend is None:
            backend = self._backend(**self._options)
            backend.open()
            self._local.backend = backend
        return backend

    def _forget(self) -> None:
        """Drop this thread's connection, which may be in no state to be used again."""
        backend = getattr(self._local, "backend", None)
        self._local.backend = None
        if backend is not None:
            backend.close()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
