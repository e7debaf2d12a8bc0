"""The audit log's page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from tenants.audit.selectors import choices, entries
from tenants.audit.words import words_for
from tenants.scoping.gate import member_page


def _change(value: Any) -> str:
    """Return one detail as text; a pair is before and after."""
    if isinstance(value, list) and len(value) == 2:
        return f"{value[0] or '–'} → {value[1] or '–'}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "–"
    return str(value)


@member_page(needs="audit:read")
@require_GET
def audit_list(request: HttpRequest) -> HttpResponse:
    """Show who changed what, newest first."""
    # The database's text holds no NUL; nothing can be found by one.
    actor, action = (request.GET.get(name, "").replace("\x00", "") for name in ("actor", "action"))
    page = entries(
        actor=actor,
        action=action,
        after=request.GET.get("after"),
        before=request.GET.get("before"),
    )
    found = choices()
    context = {
        "page": page,
        "rows": [
            {
                "entry": entry,
                "words": words_for(entry.action),
                "details": [
                    (key.replace("_", " "), _change(value)) for key, value in entry.detail.items()
                ],
            }
            for entry in page.rows
        ],
        "actor": actor,
        "action": action,
        "actors": found.actors,
        "actions": [(name, words_for(name).capitalize()) for name in found.actions],
    }
    return render(request, "tenants/audit/list.html", context)
