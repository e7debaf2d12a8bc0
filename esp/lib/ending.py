"""Lets a forked web worker hear in each moment of its life that it shall end."""

from __future__ import annotations

import os
import signal
import threading

ENDING = (signal.SIGTERM, signal.SIGINT)


def hear_ending() -> None:
    """Make SIGTERM and SIGINT count whenever they come, and whichever thread takes them.

    For the main thread of a worker, before it loads its application. Two ways lose a signal:

    - The server forks its worker with its own handlers, which only note the signal for a loop that
      does not run there, and sets the worker's when the application is loaded, seconds later. With
      the default action a worker that still starts ends at once.
    - Python runs a handler in the main thread, and only wakes that one if the kernel gave it the
      signal. A thread that is just being started can take it instead, and then a main thread that
      waits for a lock without a time limit sleeps on. So a thread of ours waits for what Python
      writes from whichever thread has the signal (`signal.set_wakeup_fd`), and calls the handler.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    told, tells = os.pipe()
    os.set_blocking(tells, False)
    signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    threading.Thread(target=_hand_on, args=(told,), name="ending", daemon=True).start()


def _hand_on(told: int) -> None:
    while numbers := os.read(told, 1):
        handler = signal.getsignal(numbers[0])
        if numbers[0] in ENDING and callable(handler):
            handler(numbers[0], None)
