"""What an outcome means for its message: final, or tried again when, and in which words."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass

from esp.lib.backoff import Schedule, next_attempt_at, schedule_for
from sending.dispatch.claims import Job
from sending.dispatch.sites import site_of
from sending.engine.ports import Outcome
from sending.messages.causes import PASSED_ON
from sending.messages.models import Message


@dataclass(slots=True)
class Verdict:
    """What an outcome means for its message: its new status, and when it is tried again."""

    job: Job
    outcome: Outcome
    status: str
    site: str  # the mailbox provider, for people
    due_at: dt.datetime | None  # None: final
    reason: str  # why it waits, in words for people
    is_attempt: bool = True  # False: a limit of ours held it, nothing was tried

    @property
    def attempts(self) -> int:
        """How many attempts the message has had with this one."""
        return self.job.attempts + self.is_attempt

    @property
    def reply(self) -> str:
        """The reply or reason as it is shown, at most 500 characters."""
        return self.outcome.text[:500].replace("\x00", "")

    @property
    def lane_site(self) -> str:
        """The site of the lane that it was tried or held in, "" when it came to none."""
        return self.outcome.lane.site[:60] if self.outcome.lane is not None else ""

    @property
    def lane_source(self) -> str:
        """The source of that lane."""
        return self.outcome.lane.source_id[:36] if self.outcome.lane is not None else ""

    @property
    def passed_to(self) -> str:
        """The node that may take it at once, "" where only this one's room is waited for."""
        return self.job.passed_to if self.outcome.hold == PASSED_ON else ""


# How much later than its limit says a held message comes back, differently for each, so that they
# do not all come at once: a part of the wait, within these bounds.
_SPREAD_PART, _SPREAD_SECONDS = 0.2, (0.5, 30.0)


def judge(job: Job, outcome: Outcome, schedule: Schedule) -> Verdict:
    """Decide what `outcome` means for the message of `job`; `schedule` is its stream's."""
    site = _site_for_people(job, outcome)
    if outcome.kind == "delivered":
        return Verdict(job, outcome, Message.Status.DELIVERED, site, None, "")
    if outcome.kind == "bounced":
        return Verdict(job, outcome, Message.Status.BOUNCED, site, None, "")
    if outcome.phase == "throttle":
        again_at = _after_hold(job, outcome)
        reason = outcome.text[:300].replace("\x00", "")
        return Verdict(job, outcome, job.status, site, again_at, reason, is_attempt=False)
    life = (job.expires_at - job.created_at).total_seconds()
    due_at = next_attempt_at(
        job.attempts + 1,
        outcome.at,
        schedule_for(schedule.name, lifetime_seconds=life),
        expires_at=job.expires_at,
        classification=outcome.classification,
        hint_seconds=outcome.retry_after_seconds,
    )
    if due_at is None:
        return Verdict(job, outcome, Message.Status.EXPIRED, site, None, "")
    reason = f"{job.domain} asked to try again later: {outcome.text}"
    if outcome.smtp_code is None:
        reason = f"{job.domain} could not be reached: {outcome.text}"
    reason = reason[:300].replace("\x00", "")
    return Verdict(job, outcome, Message.Status.DEFERRED, site, due_at, reason)


def _after_hold(job: Job, outcome: Outcome) -> dt.datetime:
    """Return when a held message is due: never after its life, whose end the sweep then finds."""
    wait = max(outcome.retry_after_seconds or 0.0, 0.0)
    low, high = _SPREAD_SECONDS
    most = min(max(4 * low, wait * _SPREAD_PART), high)
    wait += random.uniform(low, most)  # noqa: S311 (spreads load)
    return min(outcome.at + dt.timedelta(seconds=wait), max(job.expires_at, outcome.at))


def _site_for_people(job: Job, outcome: Outcome) -> str:
    """Return the provider's id, else who runs the server; a route's relay is not the provider."""
    if outcome.lane is not None and "." not in outcome.lane.site and ":" not in outcome.lane.site:
        return outcome.lane.site or site_of(outcome.mx_host, job.domain)
    return site_of(None if outcome.route else outcome.mx_host, job.domain)
