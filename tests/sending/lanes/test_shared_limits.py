"""Several processes share the limits of a lane, and never overspend them."""

from __future__ import annotations

import time

import redis

from esp.stack.valkey import ValkeyServer
from tests.sending.lanes.conftest import Crew

LIMITS = {"connections": 6, "messages_per_connection": 100}


def test_processes_together_keep_to_the_connections(crew: Crew) -> None:
    for name in "abc":
        crew.start(name, 5, limits=LIMITS, hold=0.03, site="route:x", expected=3)
    sent = crew.wait()
    assert 4 <= sent.most_at_once() <= 6
    assert min(sent.by_worker.values()) > 0.3 * max(sent.by_worker.values())


def test_more_processes_than_connections_take_turns(crew: Crew) -> None:
    limits = {**LIMITS, "connections": 1}
    for name in "ab":
        crew.start(name, 9, limits=limits, hold=0.02, site="route:x", senders=4)
    sent = crew.wait()
    assert sent.most_at_once() == 1
    assert min(sent.by_worker.values()) > 10


def test_processes_together_keep_to_the_rate(crew: Crew) -> None:
    limits = {**LIMITS, "connections": 60, "per_second": 50}
    for name in "abc":
        crew.start(name, 9, limits=limits, hold=0.002, site="route:x", expected=3)
    sent = crew.wait()
    begin, end = sent.spans[0][0], sent.spans[-1][0]
    assert len(sent.spans) <= 50 * (end - begin) + 3
    # Valkey is new and settles; the last second is not whole, workers end one by one.
    steady = [start for start, _ in sent.spans if begin + 2.5 <= start < end - 1.0]
    assert len(steady) >= 0.8 * 50 * (end - begin - 3.5)
    assert sent.most_within(2.0) <= 100
    assert sent.most_within(1.0) <= 55  # an unaligned second may meet one more of each worker


def test_a_minute_never_sees_more_than_its_limit(crew: Crew) -> None:
    limits = {**LIMITS, "connections": 60, "per_minute": 600}
    for name in "ab":
        crew.start(name, 6, limits=limits, hold=0.002, site="route:x")
    sent = crew.wait()
    assert 30 < sent.most_within(6.0) <= 60


def test_an_hours_limit_holds_for_all_and_survives_an_emptied_valkey(
    crew: Crew, valkey: ValkeyServer
) -> None:
    limits = {**LIMITS, "connections": 60, "per_hour": 300}
    for name in "abc":
        crew.start(name, 10, limits=limits, hold=0.08, senders=2, site="route:x", expected=3)
    crew.wait_until_shared(3)
    redis.Redis.from_url(valkey.url).flushall()
    sent = crew.wait()
    assert 200 <= len(sent.spans) <= 300  # what was granted and not spent is lost with the memory
    text = next(iter(r for r in sent.reasons if "300" in r))
    assert text.startswith("The hour's limit of 300 messages from this host to the route x is used")


def test_an_emptied_valkey_lets_nobody_overspend(crew: Crew, valkey: ValkeyServer) -> None:
    limits = {**LIMITS, "per_second": 50}
    for name in "abc":
        crew.start(name, 9, limits=limits, hold=0.03, site="route:x", expected=3)
    client = redis.Redis.from_url(valkey.url)
    for _ in range(3):
        time.sleep(2.5)
        client.flushall()
    sent = crew.wait()
    assert sent.most_at_once() <= 6
    assert sent.most_within(2.0) <= 100
    assert len(sent.spans) > 100


def test_openings_of_connections_are_shared(crew: Crew) -> None:
    limits = {**LIMITS, "connections": 60, "connections_per_minute": 60}
    for name in "ab":
        crew.start(name, 6, limits=limits, hold=0.01, site="route:x", always_connects=True)
    sent = crew.wait()
    # One in 1.35 s, and a few at once where none was opened for a while.
    assert 4 <= sent.most_within(60.0, sent.opened) <= 12


def test_a_killed_workers_connections_come_back(crew: Crew) -> None:
    doomed = crew.start("a", 60, limits=LIMITS, hold=30.0, site="route:x")
    crew.wait_until_shared(1)
    crew.start("b", 10, limits=LIMITS, hold=0.05, site="route:x")
    time.sleep(5)
    doomed.kill()
    sent = crew.wait()
    late = [span for span in sent.spans if span[0] > sent.spans[-1][0] - 3]
    sent.spans = late
    assert sent.most_at_once() == 6


def test_a_tenants_limit_holds_in_all_lanes(crew: Crew) -> None:
    limits = {**LIMITS, "connections": 60}
    for number, name in enumerate("abc"):
        crew.start(
            name, 5, limits=limits, hold=0.002, site=f"route:{number}", expected=3,
            overrides=[("tenant", "t", {"per_second": 30})],
        )  # fmt: skip
    sent = crew.wait()
    assert 60 < len(sent.spans) <= 150
    assert sent.most_within(2.0) <= 60
    assert any("30 messages a second leave for this tenant" in text for text in sent.reasons)
