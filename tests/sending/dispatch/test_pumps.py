"""Counting the delivery tasks that go round: a killed one is replaced at the next look."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from django.conf import settings

from esp.kit.valkey import client
from sending.dispatch import pumps


def name_of(pid: int, host: str = "") -> str:
    return f"{(host or socket.gethostname())[:30]}:{pid}:abc"


def test_a_killed_pump_of_this_machine_does_not_count() -> None:
    client().delete("mw:pumps:broadcast")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pumps.beat("broadcast", name_of(os.getpid()), seconds=3)
    pumps.beat("broadcast", name_of(process.pid), seconds=3)
    assert pumps.alive("broadcast") == 2
    process.kill()
    process.communicate()
    assert pumps.alive("broadcast") == 1
    assert client().zcard("mw:pumps:broadcast") == 1


def test_what_another_machine_does_is_waited_for() -> None:
    client().delete("mw:pumps:broadcast")
    pumps.beat("broadcast", name_of(4_000_000, host="another"), seconds=3)
    assert pumps.alive("broadcast") == 1


def test_a_sign_of_life_from_a_clock_that_was_ahead_does_not_count() -> None:
    client().delete("mw:pumps:broadcast")
    pumps.beat("broadcast", "elsewhere:1:a", seconds=24 * 3600.0)
    assert pumps.alive("broadcast") == 0
    pumps.beat("broadcast", "elsewhere:1:a", seconds=settings.DELIVERY_SLICE_SECONDS)
    assert pumps.alive("broadcast") == 1
    pumps.end("broadcast", "elsewhere:1:a")
