"""One flag for a worker's process and its children: finish what is in hand and take no more.

Celery tells only the main process that it shall end; the children do the work. The flag is a byte
of memory that all of them share, because it was mapped before the first fork.
"""

from __future__ import annotations

import mmap
from typing import Any

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
