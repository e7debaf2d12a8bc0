"""The listener's store: the worker's database and the broker."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.db import close_old_connections, connection

from esp.kit.jobs import enqueue_now
from sending.feedback import jobs
from sending.feedback.addresses import find_inbox
from sending.feedback.services import store_mail


class DatabaseStore:
    """Implements `listener.Store`; all methods but `wake` are called in one thread."""

    def is_ours(self, address: str) -> bool:
        """Tell whether mail for `address` is taken; raises django.db.Error."""
        close_old_connections()  # one that broke is opened anew, not used until the process ends
        return find_inbox(address) is not None

    def keep(self, mail_from: str, recipients: Sequence[str], raw: bytes) -> list[uuid.UUID]:
        """Commit a mail; raises django.db.Error."""
        close_old_connections()
        return store_mail(mail_from=mail_from, recipients=recipients, raw=raw)

    def wake(self, inbound_id: uuid.UUID) -> None:
        """Start the mail's task."""
        enqueue_now(jobs.PROCESS, str(inbound_id))

    def close(self) -> None:
        """Close the thread's connection."""
        connection.close()
