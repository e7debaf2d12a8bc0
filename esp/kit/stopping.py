"""One flag for a worker's process and its children: finish what is in hand and take no more.

Celery tells only the main process that it shall end; the children do the work. The flag is a byte
of memory that all of them share, because it was mapped before the first fork.

A worker that does not come to its end in time is ended: whatever it hangs on (a task, a server, the
way Celery waits for its pool after the broker has been away), a deploy must not wait for it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import mmap
import os
import signal
import sys
import threading
import time
from typing import Any

import billiard

log = logging.getLogger(__name__)

# Slices end within six seconds, and Celery takes up to three: this is for what hangs.
LONGEST_SECONDS = 9.4
_flag = mmap.mmap(-1, 1)  # anonymous and shared


def ask_to_stop(**_: Any) -> None:
    """Tell this process, its parent and its siblings to come to an end."""
    _flag[0] = 1


def is_stopping() -> bool:
    """Tell whether somebody has asked: nothing new is begun, what is in hand is finished."""
    return _flag[0] == 1


def forget_to_stop() -> None:
    """Take the request back (tests)."""
    _flag[0] = 0


def end_in_time(**_: Any) -> None:
    """End this process and its children in `LONGEST_SECONDS`, if they have not ended by then.

    Nothing is lost by it: it is what SIGKILL does, and what every job must survive.
    """
    threading.Thread(target=_end_after, args=(LONGEST_SECONDS,), daemon=True).start()


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    try:
        log.error("the worker has not come to its end in %.1f s: it was here", seconds)
        # Celery puts its log in the place of `sys.stderr`.
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        for pid in [child.pid for child in billiard.active_children() if child.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    finally:
        os._exit(70)  # EX_SOFTWARE of sysexits.h
