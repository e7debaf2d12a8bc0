#!/usr/bin/env python
"""Django's command line for Mailwright."""

from __future__ import annotations

import os
import sys

from esp.stack import benchmark


def main() -> int:
    if benchmark.needs_servers(sys.argv):
        return benchmark.run(sys.argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "esp.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 (after settings)

    execute_from_command_line(sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
