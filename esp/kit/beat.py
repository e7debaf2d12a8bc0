"""A scheduler that survives the loss of its memory, and a clock that is set back."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from celery.beat import PersistentScheduler

log = logging.getLogger(__name__)

_NOTICEABLE = dt.timedelta(seconds=1)


class SturdyScheduler(PersistentScheduler):
    """Celery's scheduler; a file of last runs that a kill has cut short is begun anew.

    The schedule stands in the code, and a job that runs once too often is harmless; a scheduler
    that never starts again is not.
    """

    def setup_schedule(self) -> None:
        """Read the file; whatever is wrong with it, go on with an empty one."""
        try:
            super().setup_schedule()
        except Exception as error:
            log.warning("the scheduler's file %s is broken: %r", self.schedule_filename, error)  # type: ignore[attr-defined]
            self._store = self._destroy_open_corrupted_schedule(error)  # type: ignore[attr-defined]
            super().setup_schedule()

    def tick(self, *args: Any, **options: Any) -> float:
        """Run what is due, and return the seconds until the next look.

        Celery asks how long ago a job ran: after a clock was set back by an hour, nothing would run
        for an hour. Jobs whose last run lies in the future are taken to have run now.
        """
        now = self.app.now()
        latest = now + _NOTICEABLE
        ahead = [
            entry for entry in self.schedule.values() if (entry.last_run_at or latest) > latest
        ]
        if ahead:
            log.warning("the clock was set back: %d jobs are scheduled anew", len(ahead))
            for entry in ahead:
                entry.last_run_at = now
            self._heap = None  # made again by the times that hold now
        seconds: float = super().tick(*args, **options)
        return seconds
