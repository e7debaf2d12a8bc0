"""`manage.py seed_demo`: tenants, people, source IPs and a verified domain for demo mode.

Runs against the simulated internet; a second run finds everything there and changes nothing. The
last line is JSON: the sign-ins.
"""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from deliverability.domains.models import Domain, Sender
from deliverability.domains.records import expected_records
from deliverability.domains.services import add_domain, add_sender, check_domain
from deliverability.ips.models import IpAddress, IpPool
from esp.simulator.client import DnsRecord, SimulatorClient
from tenants.accounts.models import User
from tenants.directory.actor import system_actor
from tenants.directory.models import Membership, Tenant
from tenants.directory.permissions import Role
from tenants.directory.services import get_or_create_system_tenant
from tenants.scoping.context import scope

# For the demo on one's own machine only; the command refuses to run anywhere else.
PASSWORD = "seven-brave-otters"  # noqa: S105
_PEOPLE = [
    ("alice@plainmail.test", "Alice Archer", "acme", Role.OWNER),
    ("bob@plainmail.test", "Bob Baker", "acme", Role.ANALYST),
    ("charlie@plainmail.test", "Charlie Cole", "globex", Role.OWNER),
]
_OPERATOR = "olga@plainmail.test"
_TENANTS = {
    "acme": ("Acme", "Acme Ltd, 1 Main Street, Springfield"),
    "globex": ("Globex", ""),
}
_SOURCES = ["127.0.2.1", "127.0.2.2"]


class Command(BaseCommand):
    help = "Fill an empty demo with tenants, people, source IPs and a verified domain."
    requires_system_checks = []  # they would load every page

    def handle(self, *args: Any, **options: Any) -> None:
        """Make what is missing and print the sign-ins."""
        if not settings.DEMO or not settings.SIMULATOR_URL:
            raise CommandError("seed_demo runs in demo mode only: start it by `make demo`.")
        with transaction.atomic():
            self._sources()
            tenants = {slug: self._tenant(slug) for slug in _TENANTS}
            self._people(tenants)
        client = SimulatorClient(settings.SIMULATOR_URL)
        self._domain(client, get_or_create_system_tenant(), settings.PRODUCT_DOMAIN)
        self._domain(client, tenants["acme"], "acme.example")
        self._sender(tenants["acme"])
        sign_ins = [
            {"email": email, "password": PASSWORD, "tenant": _TENANTS[slug][0], "role": role.label}
            for email, _, slug, role in _PEOPLE
        ]
        sign_ins.append(
            {"email": _OPERATOR, "password": PASSWORD, "tenant": "", "role": "Operator"}
        )
        self.stdout.write(json.dumps({"sign_ins": sign_ins}))

    def _sources(self) -> None:
        pool, _ = IpPool.objects.get_or_create(
            name="Shared", defaults={"purpose": IpPool.Purpose.ANY, "is_shared": True}
        )
        for number, address in enumerate(_SOURCES, 1):
            IpAddress.objects.get_or_create(
                address=address,
                defaults={"pool": pool, "ehlo_name": f"out{number}.{settings.PRODUCT_DOMAIN}"},
            )

    def _tenant(self, slug: str) -> Tenant:
        name, postal_address = _TENANTS[slug]
        tenant, _ = Tenant.objects.get_or_create(
            slug=slug, defaults={"name": name, "postal_address": postal_address}
        )
        return tenant

    def _people(self, tenants: dict[str, Tenant]) -> None:
        for email, name, slug, role in _PEOPLE:
            user = self._user(email, name)
            Membership.unscoped.get_or_create(
                user=user, tenant=tenants[slug], defaults={"role": role}
            )
        operator = self._user(_OPERATOR, "Olga Operator", is_operator=True)
        Membership.unscoped.get_or_create(
            user=operator, tenant=get_or_create_system_tenant(), defaults={"role": Role.OWNER}
        )

    @staticmethod
    def _user(email: str, name: str, *, is_operator: bool = False) -> User:
        user = User.objects.filter(email=email).first()
        if user is None:
            user = User.objects.create_user(
                email=email, password=PASSWORD, name=name, is_operator=is_operator
            )
        return user

    @staticmethod
    def _domain(client: SimulatorClient, tenant: Tenant, name: str) -> None:
        """Add, publish and verify a domain; publishing again is harmless."""
        actor = system_actor(tenant.pk, "Demo")
        with scope(tenant.pk):
            domain = Domain.objects.filter(name=name).first()
            if domain is None:
                domain = add_domain(actor=actor, name=name)
            records = [DnsRecord(r.host, r.type, r.value) for r in expected_records(domain)]
            client.publish_records(records)
            check_domain(actor=actor, domain=domain)
            if domain.status != Domain.Status.VERIFIED:
                raise CommandError(f"{name} could not be verified in the simulated DNS.")

    @staticmethod
    def _sender(tenant: Tenant) -> None:
        with scope(tenant.pk):
            if not Sender.objects.filter(email="news@acme.example").exists():
                add_sender(
                    actor=system_actor(tenant.pk, "Demo"),
                    name="Acme News",
                    email="news@acme.example",
                    reply_to="hello@acme.example",
                )
