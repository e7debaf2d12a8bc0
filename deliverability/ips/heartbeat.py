"""A thread that gives this node's sign of life while a delivery worker's process lives."""

from __future__ import annotations

import logging
import threading

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from deliverability.ips.nodes import beat, this_node

log = logging.getLogger(__name__)


def start_heartbeat() -> threading.Thread:
    """Start the thread, which ends with the process: after SIGKILL the node is silent at once."""
    thread = threading.Thread(target=_beat_on, name="node-heartbeat", daemon=True)
    thread.start()
    return thread


def _beat_on() -> None:
    pause = min(15.0, settings.DELIVERY_NODE_DEAD_SECONDS / 4)
    never = threading.Event()
    while True:
        try:
            beat(this_node())
        except (DatabaseError, InterfaceError) as error:
            log.warning("the node could not give its sign of life: %s", error)
        finally:
            # No connection is held: the process forks, and a child that inherits one breaks it.
            connections.close_all()
        never.wait(pause)
