"""The WSGI application that Granian serves."""

from __future__ import annotations

import multiprocessing
import os
import signal

# Granian's worker is forked from its main process and inherits that one's signal handlers, which
# only note the signal for a loop that runs in the main process alone. Its own handlers come after
# this module is loaded: whatever told it to end in the seconds between was lost, and a deploy
# stood still until the worker was killed. With the default it ends at once; it serves nothing yet.
if multiprocessing.current_process().name == "granian-worker":
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)

from django.core.wsgi import get_wsgi_application  # only now: this takes seconds

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "esp.settings")
application = get_wsgi_application()
