"""Trouble with Valkey: of what kind, whether to ask again already, and the operators' alarm."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from esp.lib.clock import Clock
from sending.lanes.grants import ValkeyTrouble
from sending.lanes.meters import GRACE_SECONDS
from sending.lanes.types import Alarm

log = logging.getLogger(__name__)

ALARM_CODE = "throttle-valkey"
# How often a worker in trouble repeats its alarm.
ALARM_SECONDS = 10.0

_REST_SECONDS = 1.0  # after a failure nothing is asked for so long
_WORDS = {
    "away": "does not answer",
    "slow": "answers too slowly",
    "full": "is full and takes nothing",
}


class Trouble:
    """Whether Valkey answers one worker; `alarm` is called at once and must not block."""

    def __init__(self, *, clock: Clock, alarm: Callable[[Alarm], None]) -> None:
        self._monotonic = clock.monotonic
        self._alarm = alarm
        self._kind = ""
        self._retry_at = -math.inf
        self._alarm_again_at = -math.inf
        # Until then others may still use what they were granted before this worker knew of them.
        self.grace_until = self._monotonic() + GRACE_SECONDS

    @property
    def is_on(self) -> bool:
        """Whether the last question failed."""
        return bool(self._kind)

    def rests(self, now: float) -> bool:
        """Tell whether it is too early to ask again."""
        return now < self._retry_at

    def lost(self, trouble: ValkeyTrouble, *, had_answers: bool) -> None:
        """Note a question that failed; `had_answers` says that earlier ones did not."""
        now = self._monotonic()
        self._retry_at = now + _REST_SECONDS
        if self._kind == trouble.kind and now < self._alarm_again_at:
            return
        # Said again and again: many workers share one alert, and it is over when none says it.
        self._alarm_again_at = now + ALARM_SECONDS
        if not self._kind and had_answers:
            self.grace_until = now + GRACE_SECONDS
        self._kind = trouble.kind
        log.warning("limits are divided locally, Valkey is %s: %s", trouble.kind, trouble)
        self._alarm(
            Alarm(
                code=ALARM_CODE,
                is_on=True,
                title=f"Valkey {_WORDS[trouble.kind]}: each worker keeps to its own part of limits",
                detail=(
                    "Mail goes on, slower: limits are divided by the number of workers. It ends by "
                    f"itself when Valkey answers again. The last error: {trouble}"
                ),
            )
        )

    def found(self) -> None:
        """Note an answer; the alarm ends with the first."""
        self._retry_at = -math.inf
        if self._kind:
            self._kind = ""
            log.info("Valkey answers again: limits are shared")
            self._alarm(Alarm(code=ALARM_CODE, is_on=False))
