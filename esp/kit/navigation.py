"""The navigation of the site: one table of sections and pages.

An entry shows when its address exists and the view behind it lets the person in: the permission
is asked of the view itself (`view.needs`, set by the decorators of `directory.gate`), so that the
menu and the gate cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.urls import NoReverseMatch, resolve, reverse


@dataclass(frozen=True)
class Entry:
    """A page in the navigation; `url` and `current` are filled in for a request."""

    name: str
    label: str
    url: str = ""
    current: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the site; its first page is the one that the section itself leads to."""

    key: str
    label: str
    icon: str
    entries: tuple[Entry, ...]
    group: str = "main"
    current: bool = False

    @property
    def url(self) -> str:
        """The address of the section's first page."""
        return self.entries[0].url

    @property
    def children(self) -> tuple[Entry, ...]:
        """The pages to show under the section: none where there is only one."""
        return self.entries if len(self.entries) > 1 else ()


SECTIONS: Final[tuple[Section, ...]] = (
    Section("dashboard", "Dashboard", "layout-dashboard", (Entry("dashboard", "Dashboard"),)),
    Section("campaigns", "Campaigns", "send", (Entry("campaigns-list", "Campaigns"),)),
    Section(
        "audience",
        "Audience",
        "users",
        (
            Entry("contacts-list", "Contacts"),
            Entry("lists-list", "Lists"),
            Entry("imports-list", "Imports"),
            Entry("forms-list", "Forms"),
            Entry("suppressions-list", "Suppressions"),
            Entry("attributes-list", "Attributes"),
        ),
    ),
    Section("templates", "Templates", "layout-template", (Entry("templates-list", "Templates"),)),
    Section("reports", "Reports", "chart-no-axes-column", (Entry("reports-list", "Reports"),)),
    Section(
        "deliverability",
        "Deliverability",
        "shield-check",
        (
            Entry("domains-list", "Domains"),
            Entry("senders-list", "Senders"),
            Entry("held-list", "Holds"),
        ),
    ),
    Section(
        "developers",
        "Developers",
        "code-xml",
        (
            Entry("keys-list", "API keys"),
            Entry("messages-list", "Messages"),
            Entry("api-reference", "API reference"),
        ),
    ),
    Section(
        "settings",
        "Settings",
        "settings",
        (
            Entry("settings-workspace", "Workspace"),
            Entry("members-list", "Members"),
            Entry("audit-list", "Audit log"),
        ),
    ),
    Section(
        "operator",
        "Operator",
        "server-cog",
        (
            Entry("operator-tenants", "Tenants"),
            Entry("operator-ips", "IPs and pools"),
            Entry("operator-routes", "Routes"),
            Entry("operator-tls", "TLS"),
            Entry("operator-lanes", "Lanes"),
            Entry("operator-limits", "Limits"),
            Entry("operator-holds", "Holds"),
            Entry("operator-alerts", "Alerts"),
        ),
        group="more",
    ),
    Section(
        "rehearsal",
        "Rehearsal",
        "inbox",
        (Entry("rehearsal-mailboxes", "Mailboxes"),),
        group="more",
    ),
)


def address_of(name: str) -> str | None:
    """Return the address of a named page without parameters; None where there is none."""
    try:
        return reverse(name)
    except NoReverseMatch:
        return None


def _lets_in(view: Callable[..., Any], request: HttpRequest) -> bool:
    needs = getattr(view, "needs", "member")
    user = getattr(request, "user", None)
    actor = getattr(request, "actor", None)
    if needs == "public":
        return True
    if needs == "operator":
        return bool(getattr(user, "is_operator", False))
    if actor is None:
        return False
    return needs == "member" or actor.may(needs)


def _own(path: str, url: str) -> bool:
    return path == url if url == "/" else path.startswith(url)


def _seen(section: Section, request: HttpRequest, active: str) -> Section | None:
    entries = []
    for entry in section.entries:
        url = address_of(entry.name)
        if url is not None and _lets_in(resolve(url).func, request):
            entries.append(replace(entry, url=url))
    if not entries or (section.key == "rehearsal" and not settings.DEMO):
        return None
    matching = [entry.url for entry in entries if _own(request.path, entry.url)]
    longest = max(matching, key=len, default=None)
    current = section.key == active if active else longest is not None
    return replace(
        section,
        entries=tuple(replace(entry, current=entry.url == longest) for entry in entries),
        current=current,
    )


def navigation_for(request: HttpRequest, active: str = "") -> list[Section]:
    """Return the sections that this person may open, with `active` (a section's key) marked.

    Without `active` the address decides.
    """
    found = (_seen(section, request, active) for section in SECTIONS)
    return [section for section in found if section is not None]
