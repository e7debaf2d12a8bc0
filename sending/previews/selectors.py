"""Reads for previews: whom to look as, what can be filled in."""

from __future__ import annotations

from sending.audience.models import Contact
from sending.audience.selectors import attributes_of_tenant, contacts_page

SUGGESTIONS = 8


def contacts_like(text: str) -> list[Contact]:
    """Return some contacts whose name or address holds `text`; for "" the newest ones."""
    return contacts_page(query=text, size=SUGGESTIONS).rows


def merge_tags() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return groups of (label, Liquid) of what can be filled in for each recipient.

    Names and attributes come with a default, since not every contact has them.
    """
    person = [
        ("First name", '{{ first_name | default: "there" }}'),
        ("Last name", '{{ last_name | default: "" }}'),
        ("Email address", "{{ email }}"),
    ]
    own = [
        (attribute.label, f'{{{{ {attribute.key} | default: "" }}}}')
        for attribute in attributes_of_tenant()
    ]
    product = [
        ("Unsubscribe link", "{{ unsubscribe_url }}"),
        ("Preferences link", "{{ preferences_url }}"),
        ("View in the browser", "{{ view_url }}"),
        ("Postal address", "{{ postal_address }}"),
        ("Today’s date", '{{ "now" | date: "%-d %B %Y" }}'),
    ]
    groups = [("Contact", person), ("Attributes", own), ("Mail", product)]
    return [(label, tags) for label, tags in groups if tags]
