"""The domains API: add, read, check."""

from __future__ import annotations

from typing import ClassVar, cast

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from deliverability.domains.access import access_domain
from deliverability.domains.api.serializers import (
    DomainDetailOut,
    DomainIn,
    DomainListOut,
    domain_body,
    domain_detail_body,
)
from deliverability.domains.selectors import domains_of_tenant
from deliverability.domains.services import add_domain, check_domain
from esp.kit.drf import ApiView, problems, validated
from tenants.directory.actor import Actor


def _actor(request: Request) -> Actor:
    return cast(Actor, request.auth)


class DomainsView(ApiView):
    """List domains, add one."""

    scopes: ClassVar[dict[str, str]] = {"GET": "domains:read", "POST": "domains:write"}

    @extend_schema(
        operation_id="domains_list",
        summary="List domains",
        tags=["Domains"],
        responses={200: DomainListOut, **problems(401, 403, 429)},
    )
    def get(self, request: Request) -> Response:
        return Response({"data": [domain_body(domain) for domain in domains_of_tenant()]})

    @extend_schema(
        operation_id="domains_add",
        summary="Add a domain",
        description="Makes its keys and returns the DNS records to publish.",
        tags=["Domains"],
        request=DomainIn,
        responses={201: DomainDetailOut, **problems(400, 401, 403, 409, 422, 429)},
        examples=[OpenApiExample("A domain", request_only=True, value={"name": "acme.example"})],
    )
    def post(self, request: Request) -> Response:
        entry = validated(DomainIn, request.data)
        domain = add_domain(actor=_actor(request), name=entry["name"])
        return Response(domain_detail_body(domain), status=201)


class DomainView(ApiView):
    """One domain with its records."""

    scopes: ClassVar[dict[str, str]] = {"GET": "domains:read"}

    @extend_schema(
        operation_id="domains_get",
        summary="Get a domain with its records",
        tags=["Domains"],
        responses={200: DomainDetailOut, **problems(401, 403, 404, 429)},
    )
    def get(self, request: Request, domain_id: str) -> Response:
        return Response(domain_detail_body(access_domain(_actor(request), domain_id)))


class DomainCheckView(ApiView):
    """Look a domain's records up now."""

    scopes: ClassVar[dict[str, str]] = {"POST": "domains:write"}

    @extend_schema(
        operation_id="domains_check",
        summary="Check a domain",
        description="Asks DNS for every record and sets the status by what it finds.",
        tags=["Domains"],
        request=None,
        responses={200: DomainDetailOut, **problems(401, 403, 404, 409, 429)},
    )
    def post(self, request: Request, domain_id: str) -> Response:
        actor = _actor(request)
        domain = access_domain(actor, domain_id, needs="domains:write")
        check_domain(actor=actor, domain=domain)
        return Response(domain_detail_body(domain))
