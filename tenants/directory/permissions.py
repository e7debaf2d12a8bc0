"""Roles as a table of permissions (`room:verb`); API keys carry the same names as scopes."""

from __future__ import annotations

from typing import Final

from django.db import models


class Role(models.TextChoices):
    """What a person may be in a tenant."""

    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    MARKETER = "marketer", "Marketer"
    DEVELOPER = "developer", "Developer"
    ANALYST = "analyst", "Analyst"


PERMISSIONS: Final[dict[str, str]] = {
    "campaigns:read": "See campaigns",
    "campaigns:write": "Create and edit campaigns",
    "campaigns:send": "Send, pause and cancel campaigns",
    "reports:read": "See reports and statistics",
    "audience:read": "See contacts and lists",
    "audience:write": "Create, edit and import contacts and lists",
    "suppressions:read": "See suppressions",
    "suppressions:write": "Add and remove suppressions",
    "templates:read": "See templates",
    "templates:write": "Create and edit templates",
    "messages:read": "See messages and events",
    "messages:send": "Send messages by API",
    "domains:read": "See sending domains and senders",
    "domains:write": "Add, check and remove domains and senders",
    "keys:read": "See API keys",
    "keys:write": "Create and revoke API keys",
    "members:read": "See members",
    "members:write": "Invite, change and remove members",
    "settings:write": "Change the workspace's settings",
    "audit:read": "Read the audit log",
}

_READ = frozenset(name for name in PERMISSIONS if name.endswith(":read"))
_ALL = frozenset(PERMISSIONS)

ROLE_PERMISSIONS: Final[dict[str, frozenset[str]]] = {
    Role.OWNER: _ALL,
    Role.ADMIN: _ALL,
    Role.MARKETER: frozenset(
        {
            "campaigns:read",
            "campaigns:write",
            "campaigns:send",
            "reports:read",
            "audience:read",
            "audience:write",
            "suppressions:read",
            "suppressions:write",
            "templates:read",
            "templates:write",
            "messages:read",
            "domains:read",
        }
    ),
    Role.DEVELOPER: frozenset(
        {
            "campaigns:read",
            "reports:read",
            "audience:read",
            "suppressions:read",
            "templates:read",
            "templates:write",
            "messages:read",
            "messages:send",
            "domains:read",
            "domains:write",
            "keys:read",
            "keys:write",
            "audit:read",
        }
    ),
    Role.ANALYST: _READ - {"keys:read", "audit:read", "members:read"},
}
"""Owner and admin differ in one thing only, which `directory.services` holds: an admin cannot
make, change or remove an owner."""
