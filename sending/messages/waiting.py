"""Why a message is waiting and when it is tried next, or how it ended, in words for people."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.utils import timezone

from sending.engine.classify import explain
from sending.messages.causes import OPEN_ENDED, TIMED, Cause, causes_of, moment
from sending.messages.models import Batch, Message, QueueEntry

__all__ = ["Cause", "Wait", "explanation_of", "moment", "next_try", "wait_of"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a message waits. Any of `causes` alone would hold it; the strongest comes first.

    `next_attempt_at` is None while it is being tried, and while something holds it whose end nobody
    knows, and where the message is given up before.
    """

    causes: tuple[Cause, ...]
    next_attempt_at: dt.datetime | None
    is_too_late: bool
    expires_at: dt.datetime
    attempts: int
    last_reply: str
    site: str

    @property
    def sentence(self) -> str:
        """The strongest cause and what comes next, for people."""
        cause = self.causes[0]
        text = cause.text
        if cause.until is not None:
            text = f"{text} This ends at {moment(cause.until)}."
        if self.is_next_said:
            assert self.next_attempt_at is not None
            text = f"{text} The next attempt is at {moment(self.next_attempt_at)}."
        if self.is_too_late:
            text = f"{text} The message is given up before, at {moment(self.expires_at)}."
        return text

    @property
    def is_next_said(self) -> bool:
        """Whether the next attempt is worth a sentence: known, and not the cause's own end."""
        cause = self.causes[0]
        if self.next_attempt_at is None or cause.code == "scheduled":
            return False
        return self.is_timed and self.next_attempt_at != cause.until

    @property
    def is_timed(self) -> bool:
        """Whether the strongest cause ends with the next attempt, at a known time."""
        cause = self.causes[0]
        return cause.code in TIMED or cause.until is not None


def wait_of(
    message: Message,
    entry: QueueEntry | None,
    batch: Batch | None,
    *,
    now: dt.datetime | None = None,
) -> Wait | None:
    """Return why `message` of the tenant in scope waits; None when it does not.

    A message that is not final and has no queue entry has just been delivered or lost its place;
    the check of the queue tells which (`manage.py check_queue`).
    """
    if message.status in Message.FINAL:
        return None
    now = now or timezone.now()
    causes = tuple(causes_of(message, entry, batch, now))
    # Waiting for its turn is a reason only where nothing else is.
    causes = tuple(cause for cause in causes if cause.code != "next") or causes
    next_at = None
    if entry is not None and not (entry.worker and entry.due_at > now):
        next_at = next_try(causes, max(entry.due_at, now))
    is_too_late = next_at is not None and next_at > max(message.expires_at, now)
    return Wait(
        causes=causes,
        next_attempt_at=None if is_too_late else next_at,
        is_too_late=is_too_late,
        expires_at=message.expires_at,
        attempts=message.attempts,
        last_reply=message.last_reply,
        site=(entry.site if entry else "") or message.site,
    )


def next_try(causes: tuple[Cause, ...], due_at: dt.datetime) -> dt.datetime | None:
    """Return when mail that is due at `due_at` is tried, with all that holds it; None: unknown."""
    if any(cause.code in OPEN_ENDED and cause.until is None for cause in causes):
        return None
    return max([due_at, *(cause.until for cause in causes if cause.until is not None)])


_FINAL_TEXTS = {
    Message.Status.DELIVERED: "The receiving server took the message.",
    Message.Status.CANCELLED: "The batch was cancelled before this message was sent.",
}


def explanation_of(
    message: Message, entry: QueueEntry | None, batch: Batch | None, *, wait: Wait | None = None
) -> str:
    """Return one or two sentences: what state the message is in, why, and what comes next.

    `wait` is what `wait_of` said, for who has asked already.
    """
    status = Message.Status(message.status)
    if message.bounced_late_at is not None:
        return "The receiving server took the message and sent it back later. " + explain(
            message.bounce_class
        )
    if status in _FINAL_TEXTS:
        return _FINAL_TEXTS[status]
    if status == Message.Status.DROPPED:
        return message.last_reply or "The message was not sent."
    if status == Message.Status.BOUNCED:
        return explain(message.bounce_class)
    if status == Message.Status.EXPIRED:
        reply = f" The last answer was: {message.last_reply}" if message.last_reply else ""
        return "The message could not be delivered in its time and was given up." + reply
    wait = wait or wait_of(message, entry, batch)
    return wait.sentence if wait is not None else ""
