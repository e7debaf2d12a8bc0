"""The WSGI application that Granian serves."""

from __future__ import annotations

import multiprocessing
import os

from esp.lib.ending import hear_ending

if multiprocessing.current_process().name == "granian-worker":
    hear_ending()

from django.core.wsgi import get_wsgi_application  # only now: loading takes seconds

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "esp.settings")
application = get_wsgi_application()
