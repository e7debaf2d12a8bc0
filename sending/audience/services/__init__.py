"""The audience's verbs, by topic."""

from __future__ import annotations

from sending.audience.services.contacts import create_contact, delete_contact, update_contact
from sending.audience.services.lists import archive_list, create_list, update_list
from sending.audience.services.signup import confirmation_content
from sending.audience.services.subscriptions import confirm, subscribe, unsubscribe
from sending.audience.services.suppressions import add_suppression, remove_suppression, suppress

__all__ = [
    "add_suppression",
    "archive_list",
    "confirm",
    "confirmation_content",
    "create_contact",
    "create_list",
    "delete_contact",
    "remove_suppression",
    "subscribe",
    "suppress",
    "unsubscribe",
    "update_contact",
    "update_list",
]
