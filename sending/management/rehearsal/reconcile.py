"""Hold what the database says of every recipient against what the simulated mailboxes hold."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from esp.simulator.client import SimulatorClient
from sending.events.models import Attempt, Event, EventKind
from sending.messages.models import Message


@dataclass
class Reckoning:
    """The counts of a campaign, and every recipient on whom the two sides disagree."""

    recipients: int = 0
    delivered: int = 0
    bounced: int = 0
    bounced_late: int = 0
    complained: int = 0
    deferred_then_delivered: int = 0
    lost: int = 0
    duplicates: int = 0
    disagreements: list[str] = field(default_factory=list)

    @property
    def is_exact(self) -> bool:
        """Whether every recipient is in a final state that the mailboxes confirm."""
        return not self.disagreements and not self.lost and not self.duplicates


def ledger_position(client: SimulatorClient) -> int:
    """Return the id of the simulator's latest fact."""
    return max((fact.id for fact in client.ledger()), default=0)


def reconcile(
    *,
    batch_id: uuid.UUID,
    expected: int,
    client: SimulatorClient,
    after_id: int,
    since: float,
) -> Reckoning:
    """Compare every message of the batch (in the scope of its tenant) with the ledger's facts.

    `expected` is how many recipients the review promised; one without a message is lost.
    """
    held: dict[str, int] = {}
    refused: set[str] = set()
    for fact in client.ledger(after_id=after_id):
        if fact.kind in {"delivered", "unknown_fate"}:
            held[fact.recipient.lower()] = held.get(fact.recipient.lower(), 0) + 1
        elif fact.kind == "refused":
            refused.add(fact.recipient.lower())
    reckoning = Reckoning(recipients=expected)
    found = 0
    for message in Message.objects.filter(batch_id=batch_id).iterator(chunk_size=2000):
        found += 1
        _judge(reckoning, message, held, refused)
    reckoning.lost += max(0, expected - found)
    reckoning.duplicates = client.summary(since=since).duplicates
    reckoning.deferred_then_delivered = _deferred_then_delivered(batch_id)
    return reckoning


def _judge(reckoning: Reckoning, message: Message, held: dict[str, int], refused: set[str]) -> None:
    has_mail = message.recipient in held
    status = Message.Status
    if message.status not in Message.FINAL:
        reckoning.lost += 1
        reckoning.disagreements.append(f"{message.recipient} is still {message.status}")
        return
    if message.status == status.DELIVERED:
        reckoning.delivered += message.bounced_late_at is None
        reckoning.bounced_late += message.bounced_late_at is not None
    elif message.status == status.BOUNCED:
        reckoning.bounced += 1
    if message.complained_at is not None:
        reckoning.complained += 1
    if (message.status == status.DELIVERED) != has_mail:
        reckoning.lost += message.status == status.DELIVERED
        where = "holds" if has_mail else "does not hold"
        reckoning.disagreements.append(
            f"{message.recipient} is {message.status}, but the mailbox {where} it"
        )
    elif message.status == status.BOUNCED and message.recipient not in refused:
        reckoning.disagreements.append(f"{message.recipient} is bounced, but nobody refused it")


def _deferred_then_delivered(batch_id: uuid.UUID) -> int:
    deferred = Event.objects.filter(batch_id=batch_id, kind=EventKind.DEFERRED)
    delivered = Message.objects.filter(batch_id=batch_id, status=Message.Status.DELIVERED)
    return delivered.filter(pk__in=deferred.values("message_id")).count()


def first_attempt_at(batch_id: uuid.UUID) -> float | None:
    """Return when the first message of the batch was tried (Unix seconds)."""
    messages = Message.objects.filter(batch_id=batch_id).values("pk")
    first = Attempt.objects.filter(message_id__in=messages).order_by("at").first()
    return first.at.timestamp() if first else None
