"""Forms of the operator's page about TLS."""

from __future__ import annotations

from django import forms


class RequirementForm(forms.Form):
    """A recipients' domain that gets mail by verified TLS only."""

    domain = forms.CharField(max_length=253, help_text="The part behind the @, such as bank.com.")
    note = forms.CharField(max_length=300, required=False, help_text="Why, for those after you.")
