"""One call of a provider's webhook: is it the provider's, and what does it report."""

from __future__ import annotations

import logging
import re
from json import JSONDecodeError
from typing import Any

from anymail.exceptions import AnymailError, AnymailWebhookValidationFailure
from anymail.signals import AnymailTrackingEvent
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.http import HttpRequest
from django.utils.module_loading import import_string

from sending.routes.http.outcomes import clean
from sending.routes.webhooks.catalogue import WEBHOOKS
from sending.routes.webhooks.reports import reports_of
from sending.routes.webhooks.types import BadCall, CallContent

log = logging.getLogger(__name__)

# The largest batches of a provider (SparkPost, SendGrid) are some hundred events of about 1 kB.
MAX_BYTES = 4 * 1024 * 1024
MAX_EVENTS = 5000
_SETTING = re.compile(
    r" \((?:check Anymail|for url) .*\)|\.$"
)  # our settings are others, the address is secret


def make_reader(provider: str, *, basic_auth: str, key: str, url: str) -> Any:
    """Return what reads a call; raises BadCall without a webhook, ValueError for a wrong key."""
    kind = WEBHOOKS.get(provider)
    if kind is None:
        raise BadCall(404, "this provider's reports cannot be read")
    return import_string(kind.reader)(basic_auth=basic_auth, key=key, url=url)


def read_call(
    provider: str, request: HttpRequest, *, basic_auth: str, key: str, url: str
) -> CallContent:
    """Return what a POST to the webhook reports. Raises BadCall: 403 for one that is not proven.

    `basic_auth` is "user:password" or "", `key` the signature's key or "", `url` the webhook's own
    address, as it stands at the provider.
    """
    try:
        reader = make_reader(provider, basic_auth=basic_auth, key=key, url=url)
        reader.run_validators(request)
        # Mandrill sends what came in by the same way; that is nobody's report.
        events = [
            event
            for event in reader.parse_events(request)
            if isinstance(event, AnymailTrackingEvent)
        ]
    except AnymailWebhookValidationFailure as error:
        text = _SETTING.sub("", clean(str(error)))
        raise BadCall(403, f"The call is not proven: {text}.") from error
    except (ImproperlyConfigured, SuspiciousOperation) as error:
        raise BadCall(400, clean(str(error.args[0] if error.args else error))) from error
    except OSError as error:
        raise BadCall(503, f"Amazon was not reached: {clean(str(error))}") from error
    except (
        AnymailError, ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError,
        TypeError, ValueError,
    ) as error:  # fmt: skip
        # What a stranger sends may have any shape; anymail reads it as its provider documents it.
        log.info("a call of %s was not understood", provider, exc_info=error)
        what = "it is no JSON" if isinstance(error, JSONDecodeError) else "something is missing"
        raise BadCall(400, f"The call was not understood: {what}.") from error
    if len(events) > MAX_EVENTS:
        raise BadCall(413, f"There are more than {MAX_EVENTS} events in the call.")
    return reports_of(provider, events)
