"""What `manage.py bench crash` ends in: every message compared with the mailboxes and the log.

`lost` counts messages whose state is not what the providers' own record says, and those that are
missing; `unexplained` counts copies that no cut and no kill explains, one by one; `miscounted`
counts messages of which the event log has not exactly one end, and kinds of events of which the
reports' sums are not what the log holds.
"""

from __future__ import annotations

import itertools
import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

from esp.lib.ids import decode
from sending.management.bench.crash_internet import Copy, is_refused
from sending.messages.models import Message

_FINAL = set(Message.FINAL)
_SHOWN = 20


@dataclass(frozen=True)
class Ledger:
    """The providers' record: copies by message, and whose transactions were open at kills."""

    copies: Mapping[str, Sequence[Copy]]
    open_at_kill: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read what the internet has written."""
        content = json.loads(path.read_text())
        copies: dict[str, list[Copy]] = defaultdict(list)
        for values in content["copies"]:
            copies[values["key"]].append(Copy(**values))
        return cls(copies, frozenset(content["open"]))

    def doubled(self) -> list[tuple[Copy, Copy]]:
        """Return each copy beyond the first with the one before it."""
        return [
            (first, second)
            for copies in self.copies.values()
            for first, second in itertools.pairwise(copies)
        ]

    def unexplained(self) -> list[tuple[Copy, Copy]]:
        """Return the doubles whose first copy was neither cut off nor open at a kill."""
        return [
            (first, second)
            for first, second in self.doubled()
            if not first.is_cut and first.key not in self.open_at_kill
        ]

    def under_other_names(self) -> list[str]:
        """Return the messages whose Message-ID is not theirs, or not the same in all copies."""
        return [
            key
            for key, copies in self.copies.items()
            if {copy.message_id.partition("@")[0] for copy in copies} != {key}
            or len({copy.message_id for copy in copies}) > 1
        ]


@dataclass(frozen=True)
class States:
    """Every message's status and recipient as the product tells them."""

    by_id: Mapping[uuid.UUID, tuple[str, str]]

    @classmethod
    def read(cls) -> States:
        """Read all messages."""
        rows = Message.unscoped.values_list("id", "status", "recipient")
        return cls({row[0]: (row[1], row[2]) for row in rows})

    @property
    def waiting(self) -> set[uuid.UUID]:
        """The messages that have not come to an end."""
        return {key for key, (status, _) in self.by_id.items() if status not in _FINAL}

    def disagreeing(self, ledger: Ledger) -> list[uuid.UUID]:
        """Return the final messages whose state is not what the providers' record says."""
        copies = {decode(key): len(found) for key, found in ledger.copies.items()}
        wrong = [
            key
            for key, (status, recipient) in self.by_id.items()
            if status in _FINAL and not _agrees(status, recipient, copies.get(key, 0))
        ]
        return wrong + list(copies.keys() - self.by_id.keys())

    def broken_promises(self, promised: Mapping[uuid.UUID, str]) -> list[uuid.UUID]:
        """Return the ids that a 202 named and that are not a message to that recipient."""
        return [
            key
            for key, recipient in promised.items()
            if self.by_id.get(key, ("", ""))[1] != recipient
        ]

    def accepted_twice(self, recipients: Collection[str]) -> list[str]:
        """Return those of `recipients`, one request each, who have more than one message."""
        found = Counter(recipient for _, recipient in self.by_id.values())
        return [recipient for recipient in recipients if found[recipient] > 1]


def _agrees(status: str, recipient: str, copies: int) -> bool:
    """Tell whether a final state is what the providers' record says."""
    if is_refused(recipient):
        # The address is suppressed after its first refusal: later messages are not tried.
        return copies == 0 and status in (Message.Status.BOUNCED, Message.Status.DROPPED)
    return copies > 0 and status == Message.Status.DELIVERED


def missing_of_campaigns() -> int:
    """Return how many contacts of the list have not exactly one message in a started campaign."""
    return int(_rows(_MISSING)[0][0])


_MISSING = """
SELECT count(*)
FROM sending_campaign campaign
CROSS JOIN sending_contact contact
LEFT JOIN (SELECT batch_id, contact_id, count(*) AS copies FROM sending_message
           GROUP BY 1, 2) AS made
  ON made.batch_id = campaign.batch_id AND made.contact_id = contact.id
WHERE campaign.status NOT IN ('draft', 'scheduled')
  AND coalesce(made.copies, 0) <> 1
  AND NOT EXISTS (SELECT 1 FROM sending_suppression gone
                  WHERE gone.tenant_id = contact.tenant_id
                    AND gone.email_norm = contact.email_norm)
"""

# Of every final message the log has one end, of the same kind; of no other one has it any.
_WITHOUT_ONE_END = """
SELECT count(*)
FROM sending_message message
LEFT JOIN (SELECT message_id, count(*) AS ends, min(kind) AS kind FROM sending_event
           WHERE kind = ANY(%(final)s) GROUP BY 1) AS logged ON logged.message_id = message.id
WHERE CASE WHEN message.status = ANY(%(final)s)
           THEN logged.ends IS DISTINCT FROM 1 OR logged.kind <> message.status
           ELSE logged.ends IS NOT NULL END
"""

_WRONG_SUMS = """
SELECT count(*)
FROM (SELECT batch_id, kind, count(*) AS events FROM sending_event
      WHERE kind = ANY(%(final)s) GROUP BY 1, 2) AS logged
FULL JOIN (SELECT batch_id, kind, sum(count) AS events FROM sending_statbucket
           WHERE kind = ANY(%(final)s) GROUP BY 1, 2) AS summed USING (batch_id, kind)
WHERE logged.events IS DISTINCT FROM summed.events
"""


def miscounted() -> int:
    """Return how many messages and sums the event log and the reports do not agree on."""
    final = {"final": sorted(_FINAL)}
    return int(_rows(_WITHOUT_ONE_END, final)[0][0]) + int(_rows(_WRONG_SUMS, final)[0][0])


# What still waits, and why: the first thing to read when something is stuck.
_WAITING = """
SELECT count(*), batch.kind, batch.status, entry.hold, left(entry.reason, 70),
       entry.worker <> '', entry.attempts,
       round(extract(epoch FROM min(entry.due_at) - now())),
       round(extract(epoch FROM max(entry.due_at) - now()))
FROM sending_queueentry entry LEFT JOIN sending_batch batch ON batch.id = entry.batch_id
GROUP BY 2, 3, 4, 5, 6, 7 ORDER BY 1 DESC LIMIT 12
"""


def waiting_words() -> list[str]:
    """Say what is in the queue and why: count, batch, hold, reason, lease, tries, due when."""
    return [
        f"{count} of {kind} ({status}), hold {hold!r}, {reason!r}, leased {leased}, "
        f"tries {tries}, due in {first} to {last} s"
        for count, kind, status, hold, reason, leased, tries, first, last in _rows(_WAITING)
    ]


def doubled_words(
    doubles: Sequence[tuple[Copy, Copy]],
    *,
    begun: float,
    moments: Sequence[tuple[float, float, str]],
) -> list[str]:
    """Say of some doubles when their copies came, and what was done to the product between."""
    said = []
    for first, second in doubles[:_SHOWN]:
        between = [kind for start, _, kind in moments if first.at - 1 < start < second.at]
        said.append(f"{first.at - begun:.1f}, {second.at - begun:.1f}: {between}")
    return sorted(said)


def _rows(sql: str, params: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params or {})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
