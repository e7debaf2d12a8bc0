"""The gate of pages (`scoping.gate`), with the request that a member's page gets."""

from __future__ import annotations

from django.http import HttpRequest

from tenants.directory.actor import Actor
from tenants.scoping.gate import View, member_page, operator_page, person_page, public_page

__all__ = ["MemberRequest", "View", "member_page", "operator_page", "person_page", "public_page"]


class MemberRequest(HttpRequest):
    """A request behind `member_page`: the actor is known."""

    actor: Actor
