"""A scheduler that survives the loss of its memory."""

from __future__ import annotations

import logging

from celery.beat import PersistentScheduler

log = logging.getLogger(__name__)


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
