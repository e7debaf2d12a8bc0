"""The steps of an attempt in words for people, in the order in which a session takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# By the engine's names of them (`sending.engine.ports.Phase`).
TITLES: Final = {
    "render": "Making the message",
    "envelope": "Addressing the message",
    "slice": "Waiting for a worker",
    "throttle": "Limits of ours",
    "mx": "Looking up the mail servers",
    "connect": "Connecting",
    "greeting": "Greeting",
    "ehlo": "Introduction (EHLO)",
    "tls": "Encryption (TLS)",
    "auth": "Login",
    "mail": "Sender (MAIL)",
    "rcpt": "Recipient (RCPT)",
    "data": "Content (DATA)",
    "body": "Content and its receipt",
}


def phase_title(phase: str) -> str:
    """Return a phase in words; one that nobody knows as it is."""
    return TITLES.get(phase, phase)


def steps_of(timings: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return (step in words, seconds) of an attempt's timings, in the order of a session."""
    order = list(TITLES)
    known = sorted(timings, key=lambda name: order.index(name) if name in order else len(order))
    return [(phase_title(name), timings[name]) for name in known]
