"""Reads of domains: what may send, with which keys."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from deliverability.domains.models import DkimKey, Domain, Sender


@dataclass(frozen=True)
class SigningKey:
    """A private key (PEM, PKCS 8) under its selector."""

    selector: str
    algorithm: str
    private_pem: str


@dataclass(frozen=True)
class SendingIdentity:
    """What delivery needs of a domain; never logged, it holds private keys."""

    domain_id: uuid.UUID
    name: str
    return_path_domain: str
    is_verified: bool
    keys: tuple[SigningKey, ...]


def domains_of_tenant() -> list[Domain]:
    """Return the domains of the tenant in scope, oldest first."""
    return list(Domain.objects.order_by("id"))


def senders_of_tenant() -> list[Sender]:
    """Return the senders of the tenant in scope with their domains, by address."""
    return list(Sender.objects.select_related("domain").order_by("email"))


def covering_names(email: str) -> list[str]:
    """Return the names of the domains that may send as `email`; the longest that there is does.

    A From address on a subdomain is covered by its parent: DKIM and SPF stay aligned (relaxed
    alignment, RFC 9989 section 3.2.10).
    """
    host = email.rpartition("@")[2].lower().rstrip(".")
    labels = host.split(".")
    return [".".join(labels[start:]) for start in range(len(labels) - 1)]


def verified_domain_for(email: str) -> Domain | None:
    """Return the verified domain of the tenant in scope that may send as `email`, or None."""
    found = Domain.objects.filter(name__in=covering_names(email), status=Domain.Status.VERIFIED)
    return max(found, key=lambda domain: len(domain.name), default=None)


def sending_identity(domain_id: uuid.UUID) -> SendingIdentity | None:
    """Return the keys and names of a domain for delivery; for workers, across tenants."""
    domain = Domain.unscoped.filter(pk=domain_id).first()
    if domain is None:
        return None
    keys = DkimKey.unscoped.filter(domain_id=domain_id, is_active=True).order_by("algorithm")
    return SendingIdentity(
        domain_id=domain.pk,
        name=domain.name,
        return_path_domain=domain.return_path_domain,
        is_verified=domain.status == Domain.Status.VERIFIED,
        keys=tuple(SigningKey(key.selector, key.algorithm, key.private_key) for key in keys),
    )


def is_return_path_domain(host: str) -> bool:
    """Tell whether `host` is where bounces of a verified domain come to; across tenants."""
    label, _, name = host.partition(".")
    return Domain.unscoped.filter(
        name=name, return_path_label=label, status=Domain.Status.VERIFIED
    ).exists()
