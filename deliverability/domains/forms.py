"""Forms of the domain pages; the services judge."""

from __future__ import annotations

from django import forms


class DomainForm(forms.Form):
    """A domain to add."""

    name = forms.CharField(
        label="Domain",
        max_length=253,
        help_text="The part behind the @ of your From address, such as example.com.",
        widget=forms.TextInput(
            attrs={"placeholder": "example.com", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )


class SenderForm(forms.Form):
    """A From address to add."""

    name = forms.CharField(
        label="From name", max_length=100, help_text="The name that recipients see."
    )
    email = forms.EmailField(
        label="From address", help_text="On a domain that is verified in this workspace."
    )
    reply_to = forms.EmailField(
        label="Reply-to address",
        required=False,
        help_text="Where answers go, if not to the From address.",
    )
