"""Valkey killed, started anew, slow or full: limits hold, mail goes on, operators are told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from esp.stack.valkey import ValkeyServer
from tests.sending.lanes.conftest import Crew

LIMITS = {"connections": 6, "messages_per_connection": 100, "per_second": 60}


class SlowDoor:
    """Passes a connection on to Valkey; while `delay` is set, answers come that late."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self._server: asyncio.Server | None = None
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.create_task(self._serve())
        self._loop.run_forever()

    async def _serve(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._meet, sock=listener)
        self._ready.set()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            await asyncio.gather(
                self._pass(reader, back, late=False), self._pass(there, writer, late=True)
            )
        finally:
            back.close()
            writer.close()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, late: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                if late and self.delay:
                    await asyncio.sleep(self.delay)
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.1)  # the transports close


@pytest.fixture
def door(valkey: ValkeyServer) -> Iterator[SlowDoor]:
    assert valkey.port is not None
    found = SlowDoor(valkey.port)
    yield found
    found.close()


def test_limits_hold_while_valkey_is_killed_and_comes_back_empty(
    crew: Crew, valkey: ValkeyServer
) -> None:
    for name in "abc":
        crew.start(name, 17, limits=LIMITS, hold=0.03, site="route:x", expected=3)
    crew.wait_until_shared(3)
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)
    killed = time.monotonic()
    time.sleep(4)
    valkey.stop()  # takes leave of the dead process
    valkey.start()
    sent = crew.wait()
    assert sent.most_at_once() <= 6
    assert sent.most_within(2.0) <= 120
    meanwhile = [start for start, _ in sent.spans if killed + 1.5 < start < killed + 4]
    assert len(meanwhile) > 20, "mail goes on without Valkey"
    alarms = [(code, is_on) for _, code, is_on in sorted(sent.alarms)]
    assert alarms.count(("throttle-valkey", True)) == 3
    assert alarms.count(("throttle-valkey", False)) == 3


def test_a_slow_valkey_is_waited_for_and_a_too_slow_one_is_not(
    crew: Crew, valkey: ValkeyServer, door: SlowDoor
) -> None:
    crew.url = valkey.url.replace(f":{valkey.port}/", f":{door.port}/")
    door.delay = 0.1
    for name in "ab":
        crew.start(name, 12, limits=LIMITS, hold=0.03, site="route:x", expected=2)
    crew.wait_until_shared(2)
    time.sleep(2)
    door.delay = 2.0
    too_slow = time.monotonic()
    sent = crew.wait()
    assert sent.most_at_once() <= 6
    assert sent.most_within(2.0) <= 120
    assert len(sent.spans) > 150
    assert {code for _, code, _ in sent.alarms} == {"throttle-valkey"}
    # A busy machine may make it too slow before, and raise and end the alarm; afterwards none ends.
    assert sum(1 if is_on else -1 for _, _, is_on in sent.alarms) == 2
    assert not [at for at, _, is_on in sent.alarms if at > too_slow + 2 and not is_on]


def test_a_full_valkey_divides_the_limits(crew: Crew, valkey: ValkeyServer) -> None:
    client = redis.Redis.from_url(valkey.url)
    for name in "ab":
        crew.start(name, 12, limits=LIMITS, hold=0.03, site="route:x", expected=2)
    crew.wait_until_shared(2)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    full = time.monotonic()
    sent = crew.wait()
    assert sent.most_at_once() <= 6
    assert sent.most_within(2.0) <= 120
    assert len([start for start, _ in sent.spans if start > full + 2]) > 20
    assert {code for _, code, _ in sent.alarms} == {"throttle-valkey"}


def test_a_worker_that_never_met_valkey_begins_with_its_part(
    crew: Crew, tmp_path: Path, valkey: ValkeyServer
) -> None:
    valkey.stop()
    crew.start("a", 12, limits=LIMITS, hold=0.2, site="route:x", expected=3)
    sent = crew.wait()
    assert sent.most_at_once() == 2
    assert sent.reasons
