"""A request that is accepted, for tests that change one thing in it."""

from __future__ import annotations

from typing import Any

PATH = "/api/v1/messages"


def body(**changes: Any) -> dict[str, Any]:
    """Return a valid request from acme.example; `sender` replaces `from`, None removes a field."""
    data: dict[str, Any] = {
        "from": {"email": "orders@acme.example", "name": "Acme"},
        "to": [{"email": "ada@bigmail.test"}],
        "subject": "Your order",
        "html": "<p>Thank you, {{ first_name | default: 'friend' }}.</p>",
    }
    if "sender" in changes:
        changes["from"] = changes.pop("sender")
    data |= changes
    return {name: value for name, value in data.items() if value is not None}
