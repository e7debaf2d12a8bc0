"""Words over Valkey: heard at once by who waits, lost without harm where nobody does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from esp.kit import valkey, wakeups
from esp.kit.wakeups import Listener


@pytest.fixture
def name() -> str:
    """A name that nobody else waits for."""
    return uuid.uuid4().hex


@pytest.fixture
def no_valkey(settings: Settings) -> Iterator[None]:
    """Nothing answers at Valkey's address."""
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    valkey.client.cache_clear()
    yield
    valkey.client.cache_clear()


async def wake(name: str) -> int:
    return await asyncio.to_thread(wakeups.wake, name)


async def listening(name: str) -> Listener:
    """Return a listener that is connected and has heard all that it owes to that."""
    listener = Listener(name)
    assert await listener.wait(5.0), "the first word stands for those that came before it listened"
    return listener


async def test_it_hears_a_word_at_once(name: str) -> None:
    listener = await listening(name)
    waiting = asyncio.create_task(listener.wait(5.0))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    assert await wake(name) == 1
    assert await waiting
    assert time.monotonic() - begun < 1.0
    await listener.close()


async def test_it_keeps_a_word_that_comes_while_nobody_waits(name: str) -> None:
    listener = await listening(name)
    await wake(name)
    await asyncio.sleep(0.2)
    begun = time.monotonic()
    assert await listener.wait(5.0)
    assert time.monotonic() - begun < 1.0
    assert not await listener.wait(0.05), "one word wakes once"
    await listener.close()


async def test_it_waits_no_longer_than_asked(name: str) -> None:
    listener = await listening(name)
    begun = time.monotonic()
    assert not await listener.wait(0.1)
    assert 0.09 < time.monotonic() - begun < 1.0
    await listener.close()


async def test_it_does_not_hear_words_for_others(name: str) -> None:
    listener = await listening(name)
    assert await wake(f"{name}-other") == 0
    assert not await listener.wait(0.1)
    await listener.close()


async def test_it_tells_who_wakes_that_nobody_hears_any_more(name: str) -> None:
    assert await wake(name) == 0
    listener = await listening(name)
    await listener.close()
    end = time.monotonic() + 5.0
    while await wake(name) and time.monotonic() < end:
        await asyncio.sleep(0.02)  # Valkey learns of the closed connection a moment later
    assert await wake(name) == 0
    await listener.close()


async def test_it_can_listen_again_after_it_was_closed(name: str) -> None:
    listener = await listening(name)
    await listener.close()
    assert await listener.wait(5.0)
    assert await wake(name) == 1
    assert await listener.wait(5.0)
    await listener.close()


@pytest.mark.usefixtures("no_valkey")
async def test_it_neither_fails_nor_hears_without_valkey(name: str) -> None:
    assert await wake(name) == 0
    listener = Listener(name)
    assert not await listener.wait(0.1)
    await listener.close()


async def test_it_hears_again_once_valkey_is_back(
    name: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_AGAIN_SECONDS", 0.05)
    there = settings.REDIS_URL
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    listener = Listener(name)
    assert not await listener.wait(0.1)
    settings.REDIS_URL = there
    assert await listener.wait(5.0)
    assert await wake(name) == 1
    assert await listener.wait(5.0)
    await listener.close()
