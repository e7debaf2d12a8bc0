"""A broker that is away costs a request next to nothing: sweeps find the work later."""

from __future__ import annotations

import logging
import socket
import time

import pytest
from celery import current_app

from esp.kit.jobs import enqueue_now


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_broker_that_is_away_is_logged_at_once(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # This one first: unset it gives `broker_url`, and the closed port would be what is put back.
    monkeypatch.setattr(current_app.conf, "broker_write_url", f"redis://127.0.0.1:{closed_port}/0")
    monkeypatch.setattr(current_app.conf, "broker_url", f"redis://127.0.0.1:{closed_port}/0")
    current_app.pool.force_close_all()
    current_app._pool = None
    current_app.amqp._producer_pool = None
    started = time.monotonic()
    try:
        with caplog.at_level(logging.WARNING, logger="esp.kit.jobs"):
            enqueue_now("dispatch.wake")
    finally:
        current_app._pool = None
        current_app.amqp._producer_pool = None
    assert time.monotonic() - started < 1
    assert "the broker did not take the job dispatch.wake" in caplog.text
