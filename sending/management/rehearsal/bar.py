"""The progress bar of a rehearsal, on standard error."""

from __future__ import annotations

import shutil
import sys
import time

from sending.campaigns.report import Progress

_QUIET_SECONDS = 2.0  # between lines where there is no terminal


class Bar:
    """Draws one line over and over in a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._drawn_at = 0.0

    def draw(self, progress: Progress, *, total: int, finished: bool = False) -> None:
        """Show where the campaign stands."""
        now = time.monotonic()
        if not (self._is_terminal or finished) and now - self._drawn_at < _QUIET_SECONDS:
            return
        self._drawn_at = now
        line = _line(progress, total)
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            end = "\n" if finished else ""
            sys.stderr.write(f"\r{line[:width]:<{width}}{end}")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _line(progress: Progress, total: int) -> str:
    totals = progress.totals
    done = totals.final / total if total else 0.0
    filled = round(done * 24)
    left = "" if not progress.seconds_left else f", {_time(progress.seconds_left)} left"
    return (
        f"[{'#' * filled}{'.' * (24 - filled)}] {done:4.0%}  "
        f"queued {progress.queued}  sent {totals.final}  deferred {progress.deferred}  "
        f"delivered {totals.delivered}  bounced {totals.all_bounced}  "
        f"complained {totals.complained}  {progress.rate_per_second:.0f}/s{left}"
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
