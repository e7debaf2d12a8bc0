"""Keep fetched policies, what operators demand, and how sessions fared."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection

from deliverability.tls.models import MtaStsPolicy, TlsRequirement
from esp.lib.errors import InvalidInput, NotFound
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import operator_actor
from tenants.directory.services import get_or_create_system_tenant

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True, slots=True)
class SessionCount:
    """How many sessions ended alike on a day (RFC 8460 section 4)."""

    day: dt.date
    domain: str
    policy_type: str
    result_type: str
    mx_host: str
    source_address: str
    sessions: int


def save_policy(
    *, domain: str, policy_id: str, mode: str, mx_patterns: list[str], expires_at: dt.datetime,
    now: dt.datetime,
) -> None:  # fmt: skip
    """Keep the policy of `domain`, in place of an older one."""
    MtaStsPolicy.objects.update_or_create(
        domain=domain,
        defaults={
            "policy_id": policy_id,
            "mode": mode,
            "mx_patterns": mx_patterns,
            "fetched_at": now,
            "expires_at": expires_at,
        },
    )


_ADD = """
INSERT INTO deliverability_tlsresult AS known
    (id, day, domain, policy_type, result_type, mx_host, source_address, sessions)
SELECT gen_random_uuid(), day, domain, policy, result, host, source, sessions
FROM unnest(%s::date[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])
     AS new(day, domain, policy, result, host, source, sessions)
ORDER BY day, domain, policy, result, host, source
ON CONFLICT (day, domain, policy_type, result_type, mx_host, source_address)
DO UPDATE SET sessions = known.sessions + EXCLUDED.sessions
"""


def add_results(counts: Iterable[SessionCount]) -> None:
    """Add session counts to their days; each key once in `counts`."""
    rows = [
        (
            row.day,
            row.domain[:253],
            row.policy_type,
            row.result_type,
            row.mx_host[:253],
            row.source_address,
            row.sessions,
        )
        for row in counts
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])


def _domain(text: str) -> str:
    name = text.strip().rstrip(".").lower()
    try:
        name = name.encode("idna").decode() if not name.isascii() else name
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidInput("Give a domain such as example.com.", field="domain")
    return name


def _record(operator: User, action: str, target: str, **detail: Any) -> None:
    actor = operator_actor(operator, get_or_create_system_tenant().pk)
    record(actor, action, target=target, detail=detail)


def require_tls(*, operator: User, domain: str, note: str = "") -> TlsRequirement:
    """Demand verified TLS for mail to `domain`. Raises InvalidInput."""
    if not operator.is_operator:
        raise NotFound("There is nothing at this address.")
    name = _domain(domain)
    row, is_new = TlsRequirement.objects.get_or_create(domain=name, defaults={"note": note[:300]})
    if not is_new:
        raise InvalidInput("This domain is on the list already.", field="domain")
    _record(operator, "tls.require", name, note=note[:300])
    return row


def release_tls(*, operator: User, domain: str) -> None:
    """Demand no more than the domain's own policy again. Raises NotFound."""
    deleted, _ = TlsRequirement.objects.filter(domain=domain).delete()
    if not operator.is_operator or not deleted:
        raise NotFound("There is nothing at this address.")
    _record(operator, "tls.release", domain)
