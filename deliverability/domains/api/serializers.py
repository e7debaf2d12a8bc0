"""What the domains API takes and gives."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from deliverability.domains.models import DnsCheck, Domain
from deliverability.domains.records import expected_records
from esp.kit.drf import StrictSerializer
from esp.lib.ids import to_public


class DomainIn(StrictSerializer):
    """A domain to send from."""

    name = serializers.CharField(max_length=255)


class RecordOut(serializers.Serializer[Any]):
    """One DNS record to publish, and what the latest check found there."""

    kind = serializers.ChoiceField(choices=DnsCheck.Kind.choices)
    type = serializers.CharField()
    host = serializers.CharField()
    value = serializers.CharField()
    is_required = serializers.BooleanField()
    purpose = serializers.CharField()
    is_ok = serializers.BooleanField(allow_null=True, help_text="Null before the first check.")
    found = serializers.ListField(child=serializers.CharField())
    problem = serializers.CharField()


class DomainOut(serializers.Serializer[Any]):
    """A sending domain. It may send while its status is `verified`."""

    id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=Domain.Status.choices)
    return_path_domain = serializers.CharField()
    tracking_domain = serializers.CharField()
    created_at = serializers.DateTimeField()
    verified_at = serializers.DateTimeField(allow_null=True)
    checked_at = serializers.DateTimeField(allow_null=True)


class DomainDetailOut(DomainOut):
    """A sending domain with its records."""

    records = RecordOut(many=True)


class DomainListOut(serializers.Serializer[Any]):
    """All domains of the workspace, oldest first."""

    data = DomainOut(many=True)  # type: ignore[assignment]


def domain_body(domain: Domain) -> dict[str, Any]:
    """Return a domain as the API shows it."""
    return {
        "id": to_public("dom", domain.pk),
        "name": domain.name,
        "status": domain.status,
        "return_path_domain": domain.return_path_domain,
        "tracking_domain": domain.tracking_domain,
        "created_at": domain.created_at,
        "verified_at": domain.verified_at,
        "checked_at": domain.checked_at,
    }


def domain_detail_body(domain: Domain) -> dict[str, Any]:
    """Return a domain with its records and what the latest check found."""
    checks = {check.kind: check for check in DnsCheck.objects.filter(domain=domain)}
    records = []
    for record in expected_records(domain):
        check = checks.get(record.kind)
        records.append(
            {
                "kind": str(record.kind),
                "type": record.type,
                "host": record.host,
                "value": record.value,
                "is_required": record.is_required,
                "purpose": record.purpose,
                "is_ok": check.is_ok if check else None,
                "found": check.found if check else [],
                "problem": check.problem if check else "",
            }
        )
    return domain_body(domain) | {"records": records}
