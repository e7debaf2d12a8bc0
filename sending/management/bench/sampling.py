"""Where the CPU time of a process goes: samples by its own CPU clock, not by the wall's.

A tracing profiler takes waits for the processor as the time of whatever function was interrupted,
which is nearly always one that calls the system; on a busy machine that hides what costs.
"""

from __future__ import annotations

import signal
from collections import Counter
from types import FrameType

INTERVAL_SECONDS = 0.001
_SHOWN = 70


class Sampler:
    """Counts what the main thread was doing, once per millisecond of CPU time."""

    def __init__(self) -> None:
        self.samples = 0
        self._own: Counter[str] = Counter()
        self._with_callees: Counter[str] = Counter()

    def enable(self) -> None:
        """Begin; only from the main thread."""
        signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def disable(self) -> None:
        """End."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)

    def _note(self, _signal: int, frame: FrameType | None) -> None:
        self.samples += 1
        if frame is None:
            return
        self._own[f"{_name(frame)}:{frame.f_lineno}"] += 1
        seen = set()
        while frame is not None:
            seen.add(_name(frame))
            frame = frame.f_back
        self._with_callees.update(seen)

    def table(self) -> str:
        """Return the lines that cost most, and the functions with all that they call."""
        total = self.samples or 1
        lines = [f"{self.samples} samples", "", "By line:"]
        lines += [f"{n / total:7.1%}  {name}" for name, n in self._own.most_common(_SHOWN)]
        lines += ["", "By function, with its callees:"]
        lines += [f"{n / total:7.1%}  {name}" for name, n in self._with_callees.most_common(_SHOWN)]
        return "\n".join(lines)


def _name(frame: FrameType) -> str:
    code = frame.f_code
    folders = code.co_filename.rsplit("/", 3)[-3:]
    return f"{'/'.join(folders)} {code.co_qualname}"
