"""Telling a process that waits that there is work: a word over Valkey, never the work itself.

A word that nobody hears is lost without harm: whoever waits looks by itself now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import redis
import redis.asyncio
from django.conf import settings

from esp.kit.valkey import client

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0


def _channel(name: str) -> str:
    return f"mw:wake:{name}"


def wake(name: str) -> int:
    """Wake those who wait for `name`; return how many hear it, 0 without Valkey."""
    try:
        return int(client().publish(_channel(name), b"1"))
    except redis.RedisError as error:
        log.warning("nobody can be woken while Valkey is away: %s", error)
        return 0


class Listener:
    """Hears the word in an event loop. Without Valkey it hears nothing, and tries again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, seconds: float) -> bool:
        """Wait for a word, at most `seconds`; tell whether there was one since the last call."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._listen())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        was_heard = self._heard.is_set()
        self._heard.clear()
        return was_heard

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (redis.RedisError, OSError) as error:
                log.warning("no wake-ups while Valkey is away: %s", error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _listen_once(self) -> None:
        # The connection stays silent for hours: only its opening has a time limit.
        valkey = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=0.5, socket_keepalive=True
        )
        async with valkey, valkey.pubsub() as pubsub:
            await pubsub.subscribe(_channel(self._name))
            self._heard.set()  # for the words that came before
            async for message in pubsub.listen():
                if message["type"] == "message":
                    self._heard.set()
