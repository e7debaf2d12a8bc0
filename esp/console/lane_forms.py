"""Forms of the operator's pages about lanes and limits."""

from __future__ import annotations

from django import forms

from esp.lib.ids import from_public
from sending.lanes.models import LimitOverride
from sending.lanes.types import Quota


class QuotaForm(forms.Form):
    """Limits; an empty field leaves the default."""

    connections = forms.IntegerField(label="Connections at once", required=False)
    messages_per_connection = forms.IntegerField(label="Messages a connection", required=False)
    connections_per_minute = forms.IntegerField(label="New connections a minute", required=False)
    per_second = forms.FloatField(label="Messages a second", required=False)
    per_minute = forms.IntegerField(label="Messages a minute", required=False)
    per_hour = forms.IntegerField(label="Messages an hour", required=False)
    per_day = forms.IntegerField(label="Messages a day", required=False)
    note = forms.CharField(
        required=False, max_length=300, help_text="Why, for whoever looks at it next."
    )

    def quota(self) -> Quota:
        """Return the limits that were entered."""
        values = dict(self.cleaned_data)
        return Quota(
            connections=values["connections"],
            messages_per_connection=values["messages_per_connection"],
            connections_per_minute=values["connections_per_minute"],
            per_second=values["per_second"],
            per_minute=values["per_minute"],
            per_hour=values["per_hour"],
            per_day=values["per_day"],
        )


class LimitForm(QuotaForm):
    """A limit for a scope and a name."""

    scope = forms.ChoiceField(
        label="What it limits",
        choices=[choice for choice in LimitOverride.Scope.choices if choice[0] != "lane"],
    )
    key = forms.CharField(
        label="Which one",
        required=False,
        max_length=255,
        help_text=(
            "A site such as google, a domain, a tenant’s name or id (ten_…), or the id of a "
            "campaign’s batch (bat_…) as in the address of its message log. Empty for everything "
            "that leaves."
        ),
    )
    field_order = ("scope", "key")

    def clean_key(self) -> str:
        """Return the key; a batch's id as limits keep it, not in the form that users see."""
        key = str(self.cleaned_data["key"]).strip()
        if key.lower().startswith("bat_"):
            try:
                return str(from_public("bat", key))
            except ValueError as error:
                raise forms.ValidationError("There is no such id.") from error
        return key


class ReasonForm(forms.Form):
    """Why an operator does it."""

    reason = forms.CharField(max_length=300)
