"""Builders of rows for tests: each makes a valid one, and takes what the test is about.

They write straight to the tables (the tests' connection is the owner's, which row-level security
does not hold), so no scope is needed and no service is trusted.
"""

from __future__ import annotations

import base64
import datetime as dt
import itertools
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.contrib.auth.hashers import make_password
from django.db.models import Func, Value
from django.test import Client
from django.utils import timezone

from deliverability.domains.models import DkimKey, Domain, Sender
from deliverability.ips.models import IpAddress, IpPool, PoolRule
from sending.audience.models import Contact, ContactList, Subscription, Suppression
from sending.campaigns.models import Campaign
from sending.content.models import Template
from sending.messages.models import Batch, Message, MessageContent
from tenants.accounts.models import User
from tenants.apikeys.models import ApiKey
from tenants.apikeys.services import create_key
from tenants.directory.actor import Actor
from tenants.directory.models import Membership, Tenant
from tenants.directory.permissions import PERMISSIONS, ROLE_PERMISSIONS, Role
from tenants.scoping.context import scope

PASSWORD = "seven brave otters"

_numbers = itertools.count(1)


def tenant(name: str = "", **fields: Any) -> Tenant:
    number = next(_numbers)
    fields.setdefault("slug", f"{(name or 'tenant').lower().replace(' ', '-')}-{number}")
    fields.setdefault("postal_address", "1 Main Street, Springfield")
    return Tenant.objects.create(name=name or f"Tenant {number}", **fields)


def user(email: str = "", *, password: str = PASSWORD, **fields: Any) -> User:
    number = next(_numbers)
    return User.objects.create(
        email=email or f"person{number}@example.com", password=make_password(password), **fields
    )


def membership(user: User, tenant: Tenant, role: str = Role.OWNER) -> Membership:
    return Membership.unscoped.create(user=user, tenant=tenant, role=role)


def actor(user: User, tenant: Tenant, role: str = Role.OWNER) -> Actor:
    return Actor(
        tenant_id=tenant.pk,
        permissions=ROLE_PERMISSIONS[role],
        user_id=user.pk,
        label=user.email,
    )


def client(user: User, tenant: Tenant | None = None) -> Client:
    """Return a browser in which `user` is signed in (in `tenant`, if they have several)."""
    browser = Client()
    browser.force_login(user)
    if tenant is not None:
        session = browser.session
        session["workspace"] = str(tenant.pk)
        session.save()
    return browser


def api_key(
    tenant: Tenant, *, scopes: list[str] | None = None, name: str = "Test key"
) -> tuple[ApiKey, str]:
    """Return a key and its text; without `scopes` it may do everything."""
    maker = Actor(tenant_id=tenant.pk, permissions=frozenset(PERMISSIONS), label="tests")
    with scope(tenant.pk):
        return create_key(actor=maker, name=name, scopes=scopes or sorted(PERMISSIONS))


class ApiClient:
    """Calls the API with a key; bodies are JSON."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.client = Client()

    def _call(self, verb: str, path: str, data: Any, headers: dict[str, str]) -> Any:
        headers = {"Authorization": f"Bearer {self.text}", **headers}
        method = getattr(self.client, verb)
        if verb == "get":
            return method(path, data, headers=headers)
        return method(path, data, content_type="application/json", headers=headers)

    def get(self, path: str, data: Any = None, **headers: str) -> Any:
        return self._call("get", path, data, headers)

    def post(self, path: str, data: Any = None, **headers: str) -> Any:
        return self._call("post", path, data, headers)

    def put(self, path: str, data: Any = None, **headers: str) -> Any:
        return self._call("put", path, data, headers)

    def patch(self, path: str, data: Any = None, **headers: str) -> Any:
        return self._call("patch", path, data, headers)

    def delete(self, path: str, data: Any = None, **headers: str) -> Any:
        return self._call("delete", path, data, headers)


def api(tenant: Tenant, *, scopes: list[str] | None = None) -> ApiClient:
    return ApiClient(api_key(tenant, scopes=scopes)[1])


def domain(tenant: Tenant, name: str = "", *, verified: bool = True, **fields: Any) -> Domain:
    now = timezone.now()
    if verified:
        fields = {"status": Domain.Status.VERIFIED, "verified_at": now, "checked_at": now, **fields}
    name = name or f"mail{next(_numbers)}.example"
    return Domain.unscoped.create(tenant=tenant, name=name, **fields)


def dkim_key(domain: Domain, selector: str = "ed") -> DkimKey:
    """Return a real Ed25519 key of the domain."""
    private = Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return DkimKey.unscoped.create(
        tenant=domain.tenant,
        domain=domain,
        selector=selector,
        algorithm=DkimKey.Algorithm.ED25519,
        private_key=pem.decode(),
        public_key=base64.b64encode(raw).decode(),
    )


def sender(domain: Domain, email: str = "", **fields: Any) -> Sender:
    fields.setdefault("name", "The Team")
    email = email or f"hello{next(_numbers)}@{domain.name}"
    return Sender.unscoped.create(tenant=domain.tenant, domain=domain, email=email, **fields)


def contact(tenant: Tenant, email: str = "", **fields: Any) -> Contact:
    email = email or f"reader{next(_numbers)}@bigmail.test"
    fields.setdefault("email_norm", email.lower())
    return Contact.unscoped.create(tenant=tenant, email=email, **fields)


def contact_list(tenant: Tenant, name: str = "", **fields: Any) -> ContactList:
    return ContactList.unscoped.create(
        tenant=tenant, name=name or f"List {next(_numbers)}", **fields
    )


def subscription(
    contact: Contact,
    contact_list: ContactList,
    status: str = Subscription.Status.SUBSCRIBED,
    **fields: Any,
) -> Subscription:
    fields.setdefault("source", "manual")
    return Subscription.unscoped.create(
        tenant=contact.tenant, contact=contact, contact_list=contact_list, status=status, **fields
    )


def suppression(tenant: Tenant, email: str, **fields: Any) -> Suppression:
    fields.setdefault("reason", Suppression.Reason.MANUAL)
    return Suppression.unscoped.create(tenant=tenant, email_norm=email.lower(), **fields)


def template(tenant: Tenant, name: str = "", **fields: Any) -> Template:
    fields.setdefault("subject", "Hello {{ contact.first_name | default: 'there' }}")
    fields.setdefault("body", "<p>Hello {{ contact.first_name | default: 'there' }}</p>")
    return Template.unscoped.create(tenant=tenant, name=name or f"Mail {next(_numbers)}", **fields)


def campaign(tenant: Tenant, name: str = "", **fields: Any) -> Campaign:
    lists = fields.pop("lists", [])
    made = Campaign.unscoped.create(
        tenant=tenant, name=name or f"Campaign {next(_numbers)}", **fields
    )
    with scope(tenant.pk):
        made.lists.set(lists)
    return made


def batch(tenant: Tenant, **fields: Any) -> Batch:
    fields.setdefault("kind", Batch.Kind.CAMPAIGN)
    fields.setdefault("stream", "broadcast")
    fields.setdefault("label", f"Batch {next(_numbers)}")
    return Batch.unscoped.create(tenant=tenant, **fields)


def message_content(domain: Domain, **fields: Any) -> MessageContent:
    fields.setdefault("from_email", f"hello@{domain.name}")
    fields.setdefault("compiled", {})
    return MessageContent.unscoped.create(tenant=domain.tenant, domain=domain, **fields)


def message(batch: Batch, content: MessageContent, recipient: str = "", **fields: Any) -> Message:
    """Return a message's row (no queue entry: it waits for nothing)."""
    now = timezone.now()
    fields.setdefault("created_at", now)
    fields.setdefault("expires_at", now + dt.timedelta(days=3))
    fields.setdefault("stream", batch.stream)
    recipient = recipient or f"reader{next(_numbers)}@bigmail.test"
    return Message.unscoped.create(
        tenant=batch.tenant,
        batch=batch,
        content=content,
        recipient=recipient,
        **fields,
        recipient_key=Func(Value(recipient), function="hashtext"),
    )


def ip_pool(name: str = "", **fields: Any) -> IpPool:
    return IpPool.objects.create(name=name or f"Pool {next(_numbers)}", **fields)


def ip_address(pool: IpPool, address: str = "", **fields: Any) -> IpAddress:
    number = next(_numbers)
    address = address or f"127.0.{100 + number // 250 % 100}.{number % 250 + 1}"
    fields.setdefault("ehlo_name", f"out{number}.mailwright.test")
    return IpAddress.objects.create(pool=pool, address=address, **fields)


def pool_rule(
    tenant: Tenant, pool: IpPool, stream: str = IpPool.Purpose.BROADCAST, **fields: Any
) -> PoolRule:
    return PoolRule.unscoped.create(tenant=tenant, pool=pool, stream=stream, **fields)
