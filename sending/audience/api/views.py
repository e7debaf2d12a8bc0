"""REST v1: contacts, lists, subscriptions, suppressions."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from esp.kit.drf import ApiView, validated
from esp.kit.paging import Page, newest_first
from esp.lib.errors import Conflict, InvalidInput
from sending.audience import selectors, services
from sending.audience.access import access_contact, access_list, access_suppression
from sending.audience.api import serializers as shapes
from sending.audience.models import Contact, ContactList, Subscription
from sending.audience.services.subscriptions import unsubscribe_by_member
from sending.audience.types import Consent
from tenants.directory.actor import Actor

_PAGING = [
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
    OpenApiParameter("limit", int, description="Rows a page, 1 to 200 (50)."),
]


def _page_of(shape: type[serializers.BaseSerializer[Any]], name: str) -> Any:
    return inline_serializer(
        name, {"data": shape(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    )


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "50")
    if not text.isdecimal() or not 1 <= int(text[:6]) <= 200:
        raise InvalidInput("limit is a number from 1 to 200.", field="limit")
    return int(text)


def _paged(page: Page[Any], shape: type[serializers.BaseSerializer[Any]]) -> Response:
    return Response({"data": shape(page.rows, many=True).data, "next_cursor": page.next_cursor})


def _input(shape: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    return validated(shape, request.data)


def _actor(request: Request) -> Actor:
    actor = request.auth
    assert isinstance(actor, Actor)
    return actor


class ContactsView(ApiView):
    """All contacts."""

    scopes: ClassVar[dict[str, str]] = {"GET": "audience:read", "POST": "audience:write"}

    @extend_schema(
        summary="List contacts",
        operation_id="contacts_list",
        parameters=[
            OpenApiParameter("q", str, description="A part of a name or address."),
            OpenApiParameter("list_id", str),
            OpenApiParameter("status", str, description="Status on `list_id`."),
            *_PAGING,
        ],
        responses=_page_of(shapes.ContactOut, "ContactPage"),
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        status = query.get("status", "")
        if status and status not in Subscription.Status.values:
            raise InvalidInput("There is no such status.", field="status")
        list_id: uuid.UUID | None = None
        if query.get("list_id"):
            list_id = access_list(_actor(request), query["list_id"]).pk
        page = selectors.contacts_page(
            query=query.get("q", ""),
            list_id=list_id,
            status=status,
            after=query.get("cursor"),
            size=_limit(request),
        )
        return _paged(page, shapes.ContactOut)

    @extend_schema(
        summary="Create a contact", request=shapes.ContactIn, responses={201: shapes.ContactOut}
    )
    def post(self, request: Request) -> Response:
        data = _input(shapes.ContactIn, request)
        contact = services.create_contact(actor=_actor(request), **data)
        return Response(shapes.ContactOut(contact).data, status=201)


class ContactView(ApiView):
    """One contact."""

    scopes: ClassVar[dict[str, str]] = {
        "GET": "audience:read",
        "PATCH": "audience:write",
        "DELETE": "audience:write",
    }

    @extend_schema(summary="Get a contact", responses=shapes.ContactOut)
    def get(self, request: Request, contact_id: str) -> Response:
        return Response(shapes.ContactOut(access_contact(_actor(request), contact_id)).data)

    @extend_schema(
        summary="Change a contact", request=shapes.ContactPatch, responses=shapes.ContactOut
    )
    def patch(self, request: Request, contact_id: str) -> Response:
        actor = _actor(request)
        contact = access_contact(actor, contact_id, needs="audience:write")
        data = _input(shapes.ContactPatch, request)
        contact = services.update_contact(actor=actor, contact=contact, changes=data)
        return Response(shapes.ContactOut(contact).data)

    @extend_schema(summary="Delete a contact", responses={204: None})
    def delete(self, request: Request, contact_id: str) -> Response:
        actor = _actor(request)
        contact = access_contact(actor, contact_id, needs="audience:write")
        services.delete_contact(actor=actor, contact=contact)
        return Response(status=204)


class ListsView(ApiView):
    """All lists."""

    scopes: ClassVar[dict[str, str]] = {"GET": "audience:read", "POST": "audience:write"}

    @extend_schema(
        summary="List lists",
        operation_id="lists_list",
        parameters=_PAGING,
        responses=_page_of(shapes.ListOut, "ListPage"),
    )
    def get(self, request: Request) -> Response:
        page = newest_first(
            ContactList.objects.all(),
            after=request.query_params.get("cursor"),
            size=_limit(request),
        )
        return _paged(page, shapes.ListOut)

    @extend_schema(summary="Create a list", request=shapes.ListIn, responses={201: shapes.ListOut})
    def post(self, request: Request) -> Response:
        made = services.create_list(actor=_actor(request), **_input(shapes.ListIn, request))
        return Response(shapes.ListOut(made).data, status=201)


class ListView(ApiView):
    """One list."""

    scopes: ClassVar[dict[str, str]] = {"GET": "audience:read", "PATCH": "audience:write"}

    @extend_schema(summary="Get a list", responses=shapes.ListOut)
    def get(self, request: Request, list_id: str) -> Response:
        return Response(shapes.ListOut(access_list(_actor(request), list_id)).data)

    @extend_schema(summary="Change a list", request=shapes.ListPatch, responses=shapes.ListOut)
    def patch(self, request: Request, list_id: str) -> Response:
        actor = _actor(request)
        item = access_list(actor, list_id, needs="audience:write")
        data = _input(shapes.ListPatch, request)
        archived = data.pop("archived", None)
        if data:
            kept = {"name": item.name, "description": item.description, "opt_in": item.opt_in}
            services.update_list(actor=actor, contact_list=item, **{**kept, **data})
        if archived is not None and archived != (item.archived_at is not None):
            services.archive_list(actor=actor, contact_list=item, archived=archived)
        return Response(shapes.ListOut(item).data)


class SubscriptionsView(ApiView):
    """Who is on a list."""

    scopes: ClassVar[dict[str, str]] = {"GET": "audience:read", "POST": "audience:write"}

    @extend_schema(
        summary="List a list's subscriptions",
        operation_id="subscriptions_list",
        parameters=_PAGING,
        responses=_page_of(shapes.SubscriptionOut, "SubscriptionPage"),
    )
    def get(self, request: Request, list_id: str) -> Response:
        item = access_list(_actor(request), list_id)
        page = selectors.contacts_page(
            list_id=item.pk, after=request.query_params.get("cursor"), size=_limit(request)
        )
        found = {
            row.contact_id: row
            for row in Subscription.objects.filter(
                contact_list=item, contact__in=page.rows
            ).select_related("contact")
        }
        rows = [found[contact.pk] for contact in page.rows if contact.pk in found]
        data = shapes.SubscriptionOut(rows, many=True).data  # type: ignore[arg-type]
        return Response({"data": data, "next_cursor": page.next_cursor})

    @extend_schema(
        summary="Subscribe a contact",
        request=shapes.SubscriptionIn,
        responses={201: shapes.SubscriptionOut},
    )
    def post(self, request: Request, list_id: str) -> Response:
        actor = _actor(request)
        item = access_list(actor, list_id, needs="audience:write")
        data = _input(shapes.SubscriptionIn, request)
        subscription = services.subscribe(
            actor=actor,
            contact=_contact_for(actor, data),
            contact_list=item,
            source="api",
            consent=Consent(text=data["consent_text"]),
        )
        return Response(shapes.SubscriptionOut(subscription).data, status=201)


def _contact_for(actor: Actor, data: dict[str, Any]) -> Contact:
    if "contact_id" in data:
        return access_contact(actor, data["contact_id"], needs="audience:write")
    try:
        return services.create_contact(actor=actor, email=data["email"])
    except Conflict:
        return selectors.contact_with_address(data["email"])


class SubscriptionView(ApiView):
    """One contact on a list."""

    scopes: ClassVar[dict[str, str]] = {"DELETE": "audience:write"}

    @extend_schema(summary="Unsubscribe a contact from a list", responses={204: None})
    def delete(self, request: Request, list_id: str, contact_id: str) -> Response:
        actor = _actor(request)
        item = access_list(actor, list_id, needs="audience:write")
        contact = access_contact(actor, contact_id, needs="audience:write")
        unsubscribe_by_member(actor=actor, contact=contact, contact_list=item)
        return Response(status=204)


class SuppressionsView(ApiView):
    """All suppressions."""

    scopes: ClassVar[dict[str, str]] = {"GET": "suppressions:read", "POST": "suppressions:write"}

    @extend_schema(
        summary="List suppressions",
        operation_id="suppressions_list",
        parameters=[
            OpenApiParameter("q", str, description="An address or its beginning."),
            *_PAGING,
        ],
        responses=_page_of(shapes.SuppressionOut, "SuppressionPage"),
    )
    def get(self, request: Request) -> Response:
        page = selectors.suppressions_page(
            query=request.query_params.get("q", ""),
            after=request.query_params.get("cursor"),
            size=_limit(request),
        )
        return _paged(page, shapes.SuppressionOut)

    @extend_schema(
        summary="Suppress an address",
        description="200 when it was suppressed in this scope already; nothing is changed then.",
        request=shapes.SuppressionIn,
        responses={200: shapes.SuppressionOut, 201: shapes.SuppressionOut},
    )
    def post(self, request: Request) -> Response:
        data = _input(shapes.SuppressionIn, request)
        row, created = services.add_suppression(actor=_actor(request), **data)
        return Response(shapes.SuppressionOut(row).data, status=201 if created else 200)


class SuppressionView(ApiView):
    """One suppression."""

    scopes: ClassVar[dict[str, str]] = {
        "GET": "suppressions:read",
        "DELETE": "suppressions:write",
    }

    @extend_schema(summary="Get a suppression", responses=shapes.SuppressionOut)
    def get(self, request: Request, suppression_id: str) -> Response:
        row = access_suppression(_actor(request), suppression_id)
        return Response(shapes.SuppressionOut(row).data)

    @extend_schema(summary="Remove a suppression", responses={204: None})
    def delete(self, request: Request, suppression_id: str) -> Response:
        actor = _actor(request)
        row = access_suppression(actor, suppression_id, needs="suppressions:write")
        services.remove_suppression(actor=actor, suppression=row)
        return Response(status=204)
