"""The shaping in force: the shipped files, and over them the operator's own."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from sending.engine.shaping.adaptive import Tuning
from sending.engine.shaping.policy import Shaping, ShapingInvalid, load_shaping

# In a rehearsal minutes stand for days: a lane that rests for half an hour would outlast it.
_REHEARSAL_SCALE = 0.005


def shaping_in_force() -> Shaping:
    """Return sites, limits and rules; raises ImproperlyConfigured, with lines, for a wrong file."""
    is_rehearsal = settings.RETRY_PROFILE == "rehearsal"
    return _load(settings.SHAPING_FILE, _REHEARSAL_SCALE if is_rehearsal else 1.0)


def tuning_in_force() -> Tuning:
    """Return how fast lanes learn: in a rehearsal they recover within seconds."""
    if settings.RETRY_PROFILE != "rehearsal":
        return Tuning()
    return Tuning(
        calm_seconds=1.0,
        rate_steps=5,
        rate_step_seconds=0.5,
        measure_seconds=2.0,
        least_per_second=10.0,
    )


@lru_cache(maxsize=4)
def _load(path: str, scale: float) -> Shaping:
    if not path:
        return load_shaping(seconds_scale=scale)
    try:
        extra = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 (byte {error.start + 1}: {error.reason})"
        raise ImproperlyConfigured(f"SHAPING_FILE {path} cannot be read: {why}") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ImproperlyConfigured(f"SHAPING_FILE {path} cannot be read: {why}") from error
    try:
        return load_shaping(extra=extra, seconds_scale=scale)
    except ShapingInvalid as error:
        raise ImproperlyConfigured(f"SHAPING_FILE {path} is wrong:\n{error}") from error
