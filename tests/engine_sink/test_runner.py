"""Slices of work over the real engine, with a queue that lives in memory."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from esp.lib.clock import SystemClock
from sending.engine.ports import Deliver, Order, Outcome
from sending.engine.recorder import RecordFailed, RecordSettings, Result
from sending.engine.runner import Avoid, NotReady, SliceSettings, SliceSummary, run_slice
from sending.engine.smtp.session import Timeouts
from sending.engine.throttle import LaneLimits
from tests.engine_sink.conftest import World, order
from tests.engine_sink.sink import Drip, Hang, Sink


@dataclass(frozen=True)
class Job:
    number: int
    domain: str = "plainmail.test"
    party: str = ""


@dataclass
class Queue:
    """Implements `runner.Work`; faults are switched on by the tests."""

    jobs: list[Job]
    results: list[Result[Job]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    given_back: list[Job] = field(default_factory=list)
    kept: list[Job] = field(default_factory=list)
    poison: frozenset[int] = frozenset()
    unready: frozenset[int] = frozenset()
    record_failures: int = 0
    honours_avoid: bool = True
    is_expecting: bool = False

    async def claim(self, limit: int, avoid: Avoid) -> Sequence[Job]:
        await asyncio.sleep(0)
        skips = avoid if self.honours_avoid else Avoid()
        wanted = [job for job in self.jobs if not skips.covers(self.party(job), job.domain)][:limit]
        for job in wanted:
            self.jobs.remove(job)
        return wanted

    def destination(self, job: Job) -> str:
        return job.domain

    def party(self, job: Job) -> str:
        return job.party

    async def prepare(self, job: Job) -> Order:
        if job.number in self.poison:
            raise ZeroDivisionError("division by zero in the template")
        if job.number in self.unready:
            raise NotReady("the database is away")
        return order(f"r{job.number}@{job.domain}")

    async def record(self, results: Sequence[Result[Job]]) -> None:
        await asyncio.sleep(0.001)
        if self.record_failures:
            self.record_failures -= 1
            raise ConnectionError("the database is away")
        self.batches.append(len(results))
        self.results.extend(results)

    async def keep(self, jobs: Sequence[Job]) -> None:
        self.kept.extend(jobs)

    async def give_back(self, jobs: Sequence[Job]) -> None:
        self.given_back.extend(jobs)

    @property
    def kinds(self) -> Counter[str]:
        return Counter(result.outcome.kind for result in self.results)

    @property
    def numbers(self) -> list[int]:
        return sorted(result.job.number for result in self.results)


def queue(count: int, *, domain: str = "plainmail.test", **settings: object) -> Queue:
    return Queue([Job(number, domain) for number in range(count)], **settings)  # type: ignore[arg-type]


async def run(work: Queue, deliverer: Deliver, **settings: object) -> SliceSummary:
    options: dict[str, object] = {
        "duration_seconds": 5,
        "overtime_seconds": 0.5,
        "concurrency": 10,
        "max_share": 1.0,
        "poll_seconds": 0.02,
        "record": RecordSettings(size=20, seconds=0.05, retry_seconds=(0.01, 0.01)),
    }
    return await run_slice(
        work,
        deliverer,
        settings=SliceSettings(**(options | settings)),  # type: ignore[arg-type]
        clock=SystemClock(),
    )


async def test_it_works_the_queue_off_and_records_every_job_once(world: World) -> None:
    sink = await world.sink()
    work = queue(100)
    summary = await run(work, world.engine(limits=LaneLimits(connections=10)))
    assert work.numbers == list(range(100))
    assert len(sink.messages) == 100
    assert (summary.claimed, summary.delivered, summary.is_idle) == (100, 100, True)
    assert summary.by_classification == {"none/delivered": 100}
    assert max(work.batches) <= 20


async def test_no_more_than_the_slots_are_under_way(world: World) -> None:
    sink = await world.sink()
    await run(queue(60), world.engine(limits=LaneLimits(connections=50)), concurrency=4)
    assert sink.most_open <= 4


async def test_a_job_that_cannot_be_rendered_bounces_alone(world: World) -> None:
    await world.sink()
    work = queue(20, poison=frozenset({3, 7}))
    summary = await run(work, world.engine())
    assert (summary.delivered, summary.bounced) == (18, 2)
    bad = [result for result in work.results if result.outcome.kind == "bounced"]
    assert {result.job.number for result in bad} == {3, 7}
    assert {(r.outcome.phase, r.outcome.classification) for r in bad} == {
        ("render", "block/content")
    }


async def test_a_job_whose_preparation_must_wait_goes_back_untouched(world: World) -> None:
    await world.sink()
    work = queue(20, unready=frozenset({3, 7}))
    summary = await run(work, world.engine())
    assert (summary.delivered, summary.returned) == (18, 2)
    assert {job.number for job in work.given_back} == {3, 7}


async def test_a_fault_in_the_engine_defers_alone(world: World) -> None:
    class Faulty:
        async def deliver(self, order: Order) -> Outcome:
            if order.rcpt_to.startswith("r5@"):
                raise RuntimeError("a bug")
            return await real.deliver(order)

        def is_leaving(self, order: Order) -> bool:
            return real.is_leaving(order)

    await world.sink()
    real = world.engine()
    work = queue(10)
    summary = await run(work, Faulty())
    assert (summary.delivered, summary.deferred) == (9, 1)


async def test_recording_is_tried_again_and_nothing_is_lost(world: World) -> None:
    await world.sink()
    work = queue(50, record_failures=2)
    summary = await run(work, world.engine())
    assert summary.delivered == 50
    assert work.numbers == list(range(50))


async def test_a_database_that_stays_away_stops_the_slice_and_raises(world: World) -> None:
    sink = await world.sink()
    work = queue(500, record_failures=10_000)
    with pytest.raises(RecordFailed) as caught:
        await run(work, world.engine())
    assert work.results == []
    # It stopped claiming: what went out without a record is far less than the queue.
    assert caught.value.count == len(sink.messages) < 450
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_a_slow_destination_leaves_slots_for_the_others(world: World) -> None:
    world.domain("slowmail.test", "127.0.0.3")
    await world.sink()
    slow = await world.sink("127.0.0.3", script={"BODY": Hang()})
    work = Queue([Job(n, "slowmail.test") for n in range(40)])
    work.jobs += [Job(n) for n in range(100, 140)]
    deliverer = world.engine(
        limits=LaneLimits(connections=50), timeouts=Timeouts(body=1.0, quit=0.2)
    )
    summary = await run(work, deliverer, max_share=0.5, duration_seconds=0.6, grace_seconds=0.1)
    assert summary.delivered == 40
    assert slow.most_open <= 5


async def test_fairness_holds_when_the_queue_ignores_what_to_avoid(world: World) -> None:
    world.domain("slowmail.test", "127.0.0.3")
    await world.sink()
    slow = await world.sink("127.0.0.3", script={"BODY": Hang()})
    work = Queue([Job(n, "slowmail.test") for n in range(10)], honours_avoid=False)
    work.jobs += [Job(n) for n in range(100, 120)]
    deliverer = world.engine(
        limits=LaneLimits(connections=50), timeouts=Timeouts(body=1.0, quit=0.2)
    )
    summary = await run(work, deliverer, max_share=0.5, duration_seconds=0.6, grace_seconds=0.1)
    assert summary.delivered == 20
    assert slow.most_open <= 5
    assert len(work.given_back) == summary.returned > 0


async def test_the_slice_ends_in_time_and_gives_back_what_it_did_not_start(world: World) -> None:
    await world.sink(script={"BODY": Hang()})
    work = queue(30)
    deliverer = world.engine(
        limits=LaneLimits(connections=50), timeouts=Timeouts(body=60, quit=0.2)
    )
    summary = await run(work, deliverer, duration_seconds=0.2, grace_seconds=0.1, max_share=0.3)
    assert summary.seconds < 2
    assert (summary.cut_off, summary.deferred) == (3, 3)
    assert all(result.outcome.is_ambiguous for result in work.results)
    done = work.numbers + [job.number for job in work.given_back + work.jobs]
    assert sorted(done) == list(range(30))


async def test_it_stops_when_told_and_finishes_what_is_under_way(world: World) -> None:
    sink = await world.sink()
    work = queue(5000)
    summary = await run_slice(
        work,
        world.engine(limits=LaneLimits(connections=10)),
        settings=SliceSettings(duration_seconds=20, concurrency=10, max_share=1),
        clock=SystemClock(),
        should_stop=lambda: len(sink.messages) >= 50,
    )
    assert 50 <= summary.delivered < 1000
    assert summary.cut_off == 0
    assert summary.delivered == len(sink.messages) == len(work.results)


async def test_a_claim_that_fails_ends_the_slice_after_the_results_are_safe(world: World) -> None:
    class Failing(Queue):
        async def claim(self, limit: int, avoid: Avoid) -> Sequence[Job]:
            if len(self.jobs) <= 20:
                raise ConnectionError("the database is away")
            return await super().claim(limit, avoid)

    sink = await world.sink()
    work = Failing([Job(number) for number in range(40)])
    with pytest.raises(ConnectionError):
        await run(work, world.engine(limits=LaneLimits(connections=10)))
    assert len(work.results) == len(sink.messages) >= 10
    assert sorted(work.numbers + [job.number for job in work.given_back]) == list(range(20))


async def test_many_destinations_are_served_in_turn(world: World) -> None:
    await world.sink()
    for number in range(8):
        world.dns.mx(f"d{number}.test", "10 mx1.plainmail.test.")
    jobs = [Job(n, f"d{n % 8}.test") for n in range(80)]
    random.Random(3).shuffle(jobs)
    work = Queue(jobs)
    summary = await run(work, world.engine(limits=LaneLimits(connections=10)), max_share=0.2)
    assert summary.delivered == 80


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="slot"):
        SliceSettings(concurrency=0)
    with pytest.raises(ValueError, match="share"):
        SliceSettings(max_share=0)
    assert SliceSettings(concurrency=1, max_share=0.1).slots_per_destination == 1


# --- told to stop --------------------------------------------------------------------------------


async def stopped_at(
    world: World, work: Queue, sink: Sink, verb: str, count: int, **settings: object
) -> tuple[SliceSummary, float]:
    """Run a slice and stop it when the sink has heard `verb` `count` times; returns how long."""
    loop = asyncio.get_running_loop()
    told: list[float] = []

    def should_stop() -> bool:
        if sink.counts[verb] >= count and not told:
            told.append(loop.time())
        return bool(told)

    patient = Timeouts(mail=60, rcpt=60, data=60, body=60, quit=0.2)
    summary = await run_slice(
        work,
        world.engine(limits=LaneLimits(connections=50), timeouts=patient),
        settings=SliceSettings(duration_seconds=20, concurrency=10, max_share=1, **settings),  # type: ignore[arg-type]
        clock=SystemClock(),
        should_stop=should_stop,
    )
    return summary, loop.time() - told[0]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
async def test_a_stop_gives_back_what_has_not_begun_to_leave(world: World, verb: str) -> None:
    sink = await world.sink(script={verb: Hang()})
    work = queue(40)
    summary, seconds = await stopped_at(world, work, sink, verb, 10)
    assert seconds < 0.5
    assert summary.is_stopped
    assert (work.results, summary.cut_off) == ([], 0)
    back = [job.number for job in work.given_back + work.jobs]
    assert sorted(back) == list(range(40))
    await sink.until_closed()


async def test_a_stop_waits_for_what_is_leaving(world: World) -> None:
    sink = await world.sink(script={"BODY": Drip(b"250 2.0.0 taken\r\n", pause=0.03)})
    work = queue(40)
    summary, seconds = await stopped_at(world, work, sink, "DATA", 10)
    assert 0.2 < seconds < 2
    assert (summary.delivered, summary.cut_off) == (10, 0)
    assert len(work.results) == 10
    assert not set(work.numbers) & {job.number for job in work.given_back}
    assert len(work.given_back + work.jobs) == 30


async def test_a_stop_has_an_end(world: World) -> None:
    sink = await world.sink(script={"BODY": Hang()})
    work = queue(40)
    summary, seconds = await stopped_at(world, work, sink, "DATA", 10, stop_grace_seconds=0.2)
    assert seconds < 1
    assert (summary.cut_off, summary.deferred) == (10, 10)
    assert all(result.outcome.is_ambiguous for result in work.results)


async def test_a_stop_is_heard_while_there_is_nothing_to_do(world: World) -> None:
    await world.sink()
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.15
    summary = await run_slice(
        queue(0),
        world.engine(),
        settings=SliceSettings(duration_seconds=20, linger_seconds=20, poll_seconds=5),
        clock=SystemClock(),
        should_stop=lambda: loop.time() > end,
    )
    assert summary.is_stopped
    assert summary.seconds < 0.4


# --- held, woken, noted --------------------------------------------------------------------------


class Holding:
    """Holds whatever is for `closed.test`; delivers the rest."""

    def __init__(self, hold: str, retry_after: float) -> None:
        self.hold, self.retry_after = hold, retry_after

    async def deliver(self, order: Order) -> Outcome:
        await asyncio.sleep(0)
        now = SystemClock().now()
        if order.domain == "closed.test":
            return Outcome(
                "deferred", "throttle", "soft/throttled", "closed", now,
                hold=self.hold, retry_after_seconds=self.retry_after,
            )  # fmt: skip
        return Outcome("delivered", "body", "none/delivered", "ok", now)

    def is_leaving(self, order: Order) -> bool:
        return False


@dataclass
class Watching(Queue):
    """Remembers what every claim was told to avoid."""

    avoided: list[Avoid] = field(default_factory=list)

    async def claim(self, limit: int, avoid: Avoid) -> Sequence[Job]:
        self.avoided.append(avoid)
        return await super().claim(min(limit, 5), avoid)


def mixed() -> Watching:
    return Watching([Job(n, "closed.test" if n % 2 else "open.test") for n in range(60)])


async def test_a_held_destination_stays_out_of_the_claims() -> None:
    work, remembered = mixed(), {}
    settings = SliceSettings(duration_seconds=2, concurrency=4, max_share=1, poll_seconds=0.02)
    summary = await run_slice(
        work, Holding("suspended", 600), settings=settings, clock=SystemClock(), avoided=remembered
    )
    assert summary.delivered == 30
    assert 0 < summary.held < 12
    assert summary.deferred == 0
    assert "closed.test" in work.avoided[-1].destinations
    # The next slice knows it from its first claim.
    again = mixed()
    await run_slice(
        again, Holding("suspended", 600), settings=settings, clock=SystemClock(), avoided=remembered
    )
    assert "closed.test" in again.avoided[0].destinations


@pytest.mark.parametrize(("hold", "seconds"), [("tenant-rate", 600.0), ("suspended", 0.5)])
async def test_others_holds_and_short_ones_close_no_destination(hold: str, seconds: float) -> None:
    work = mixed()
    settings = SliceSettings(duration_seconds=2, concurrency=4, max_share=1, poll_seconds=0.02)
    summary = await run_slice(work, Holding(hold, seconds), settings=settings, clock=SystemClock())
    assert (summary.delivered, summary.held) == (30, 30)


async def test_new_work_is_claimed_as_soon_as_it_is_told_of(world: World) -> None:
    class Told(Queue):
        async def wait_for_work(self, timeout: float) -> bool:
            try:
                async with asyncio.timeout(timeout):
                    await arrived.wait()
            except TimeoutError:
                return False
            arrived.clear()
            return True

    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    sink = await world.sink()
    work = Told([])

    async def bring() -> float:
        await asyncio.sleep(0.3)
        work.jobs.append(Job(1))
        arrived.set()
        start = loop.time()
        while not sink.messages:
            await asyncio.sleep(0.002)
        return loop.time() - start

    bringing = asyncio.create_task(bring())
    summary = await run(
        work, world.engine(), poll_seconds=30.0, linger_seconds=1.0, duration_seconds=1.0
    )
    assert summary.delivered == 1
    assert await bringing < 0.25


async def test_each_result_is_noted_before_it_waits_for_its_batch(world: World) -> None:
    class Noting(Queue):
        noted: list[int] = []

        def note(self, result: Result[Job]) -> None:
            assert result.job.number not in self.numbers
            self.noted.append(result.job.number)

    await world.sink()
    work = Noting([Job(number) for number in range(30)])
    await run(work, world.engine())
    assert sorted(work.noted) == list(range(30))


async def test_a_slow_database_holds_back_the_claims_and_not_only_the_results() -> None:
    class Slow(Queue):
        async def record(self, results: Sequence[Result[Job]]) -> None:
            await asyncio.sleep(0.05)
            self.most = max(self.most, taken - len(self.results))
            await super().record(results)

        async def claim(self, limit: int, avoid: Avoid) -> Sequence[Job]:
            nonlocal taken
            jobs = await super().claim(limit, avoid)
            taken += len(jobs)
            return jobs

        most = 0

    taken = 0
    work = Slow([Job(number) for number in range(500)])
    summary = await run_slice(
        work,
        Holding("", 0),
        settings=SliceSettings(
            concurrency=10, max_share=1, record=RecordSettings(size=20, seconds=0.01)
        ),
        clock=SystemClock(),
    )
    assert summary.delivered == 500
    # Five batches behind, and what was in the slots and in line by then.
    assert work.most <= 5 * 20 + 2 * 10 + 20


class Full:
    """A lane without room for what is refused: all but one party's messages, while that may."""

    def __init__(self, hold: str) -> None:
        self.hold = hold

    def is_leaving(self, order: Order) -> bool:
        return False

    async def deliver(self, order: Order) -> Outcome:
        await asyncio.sleep(0)
        now = SystemClock().now()
        if order.rcpt_to.startswith("first@"):
            return Outcome("delivered", "body", "none/delivered", "250 ok", now, smtp_code=250)
        return Outcome(
            "deferred", "throttle", "soft/throttled", "no room", now,
            hold=self.hold, retry_after_seconds=9.0,
        )  # fmt: skip


class Shared(Queue):
    """A queue of a campaign's messages, and one of somebody else's that comes a little later."""

    claims = 0

    async def claim(self, limit: int, avoid: Avoid) -> Sequence[Job]:
        self.claims += 1
        if self.claims == 10:
            self.jobs.append(Job(0, party="other"))
        return await super().claim(limit, avoid)

    async def prepare(self, job: Job) -> Order:
        return order(f"first@{job.domain}" if job.number == 0 else f"r{job.number}@{job.domain}")


async def held_back(hold: str, **settings: object) -> tuple[Shared, SliceSummary]:
    work = Shared([Job(number, party="campaign") for number in range(1, 9)])
    summary = await run(
        work, Full(hold), concurrency=4, ahead=0, duration_seconds=2.0, linger_seconds=2.0,
        **settings,
    )  # fmt: skip
    return work, summary


async def test_turns_in_a_full_lane_keep_nobody_elses_mail_from_it() -> None:
    work, summary = await held_back("connections", avoid_full_seconds=9.0)
    assert (summary.delivered, summary.held) == (1, 4)
    assert [job.party for job in work.jobs] == ["campaign"] * 4  # it waits for its turns


async def test_a_lane_that_is_shut_is_shut_for_everybody() -> None:
    work, summary = await held_back("suspended")
    assert (summary.delivered, summary.held) == (0, 4)
    assert work.jobs[-1].party == "other"


async def test_a_full_lane_is_soon_tried_again() -> None:
    work, summary = await held_back("connections", avoid_full_seconds=0.2)
    assert (summary.delivered, summary.held, work.jobs) == (1, 8, [])


def among_others(domain: str, hanging: int) -> Queue:
    """Jobs for a server that hangs, and before long endless ones for one that does not."""
    jobs = [Job(number, domain) for number in range(hanging)]
    return Queue([*jobs, *(Job(number) for number in range(hanging, 50_000))])


def delivered_after(work: Queue, start: dt.datetime, seconds: float) -> int:
    moment = start + dt.timedelta(seconds=seconds)
    outcomes = [result.outcome for result in work.results]
    return sum(one.kind == "delivered" and one.at > moment for one in outcomes)


async def test_while_a_server_hangs_at_the_end_of_a_slice_the_other_slots_work(
    world: World,
) -> None:
    world.domain("tarpit.test", "127.0.0.3")
    await world.sink()
    tarpit = await world.sink("127.0.0.3", script={"CONNECT": Hang()})
    work = among_others("tarpit.test", 30)
    engine = world.engine(timeouts=Timeouts(greeting=60))
    start = SystemClock().now()
    summary = await run(
        work,
        engine,
        duration_seconds=1,
        overtime_seconds=60,
        hang_seconds=0.3,
        grace_seconds=4,
        max_share=0.5,
    )
    assert 4 <= summary.seconds < 12
    assert delivered_after(work, start, 2.0) > 20
    assert delivered_after(work, start, 3.0) > 20
    # Five had their slots; no more began there when these were seen to hang.
    assert summary.cut_off == tarpit.connections == 5
    assert {job.domain for job in work.given_back} >= {"tarpit.test"}
    assert summary.claimed == len(work.results) + len(work.given_back)


async def test_a_reply_that_takes_long_is_waited_for_beyond_the_slice(world: World) -> None:
    """Cutting it off would send the message again (RFC 1047): its lease is kept meanwhile."""
    world.domain("slow.test", "127.0.0.3")
    await world.sink()
    await world.sink("127.0.0.3", script={"BODY": Drip(b"250 2.0.0 taken at last\r\n", 0.15)})
    work = among_others("slow.test", 1)
    start = SystemClock().now()
    summary = await run(
        work, world.engine(timeouts=Timeouts(body=60)),
        duration_seconds=0.5, overtime_seconds=60, hang_seconds=0.3, grace_seconds=1,
        keep_seconds=1, concurrency=4, max_share=0.5,
    )  # fmt: skip
    assert summary.cut_off == 0
    (outcome,) = (result.outcome for result in work.results if result.job.number == 0)
    assert (outcome.kind, outcome.text) == ("delivered", "2.0.0 taken at last")
    assert delivered_after(work, start, 1.5) > 20
    assert {job.number for job in work.kept} == {0}
    assert summary.seconds < 15


async def test_content_on_its_way_when_overtime_is_over_is_not_cut_off(world: World) -> None:
    # 2.1 seconds a reply, half as long again where the machine is slow: the second round has begun
    # when the slice's time is over, and goes on when the overtime is.
    await world.sink(script={"BODY": Drip(b"250 2.0.0 ok\r\n", 0.15)})
    work = queue(200)
    engine = world.engine(limits=LaneLimits(connections=10), timeouts=Timeouts(body=60))
    summary = await run(
        work, engine, duration_seconds=3.2, hang_seconds=0.2, grace_seconds=1, overtime_seconds=0.7
    )
    assert summary.cut_off == 0
    assert summary.delivered > 10
    assert not [result for result in work.results if result.outcome.is_ambiguous]


async def test_what_has_just_begun_when_a_slice_ends_goes_back_and_is_no_attempt(
    world: World,
) -> None:
    world.domain("tarpit.test", "127.0.0.3")
    await world.sink("127.0.0.3", script={"CONNECT": Hang()})
    work = queue(3, domain="tarpit.test")
    engine = world.engine(timeouts=Timeouts(greeting=60))
    summary = await run(
        work, engine, duration_seconds=0.2, hang_seconds=30, grace_seconds=0.5, overtime_seconds=60
    )
    assert (summary.cut_off, summary.returned) == (0, 3)
    assert not work.results


async def test_a_slice_goes_on_while_something_waits_for_its_turn(world: World) -> None:
    work = queue(1)
    work.is_expecting = True  # as the last claim says of what will be due within seconds
    soon = asyncio.get_running_loop().time() + 0.3

    async def come_due() -> None:
        await asyncio.sleep(0.3)
        work.jobs.append(Job(1))
        work.is_expecting = False

    coming = asyncio.create_task(come_due())
    await world.sink()
    summary = await run(work, world.engine())
    await coming
    assert asyncio.get_running_loop().time() >= soon
    assert work.numbers == [0, 1]
    assert summary.is_idle
