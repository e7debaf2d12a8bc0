"""The form for a new key."""

from __future__ import annotations

from itertools import groupby

from django import forms

from tenants.directory.actor import Actor
from tenants.directory.permissions import PERMISSIONS

# What only people do, in pages: the API has no door for it.
_PAGES_ONLY = frozenset({"members", "settings", "audit", "keys"})


def scope_choices(actor: Actor) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the scopes that the actor can give, by room, as grouped choices."""
    names = [
        name
        for name in PERMISSIONS
        if name.partition(":")[0] not in _PAGES_ONLY and actor.may(name)
    ]
    grouped = groupby(names, key=lambda name: name.partition(":")[0])
    return [
        (room.capitalize(), [(name, PERMISSIONS[name]) for name in group])
        for room, group in grouped
    ]


class KeyForm(forms.Form):
    """A key's name and what it may do."""

    name = forms.CharField(
        max_length=80,
        help_text="Says where the key is used: “Web shop, production”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one scope."},
    )

    def __init__(self, *args: object, actor: Actor, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        field = self.fields["scopes"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = scope_choices(actor)
