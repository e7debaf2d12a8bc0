"""Forms about a workspace and its people."""

from __future__ import annotations

import zoneinfo

from django import forms

from tenants.directory.permissions import Role

ROLE_WORDS: dict[str, str] = {
    Role.OWNER: "Everything, and decides who the owners are",
    Role.ADMIN: "Everything, but cannot make or change owners",
    Role.MARKETER: "Contacts, templates, campaigns and reports",
    Role.DEVELOPER: "API keys, domains, messages and templates",
    Role.ANALYST: "Reads reports, contacts and templates; changes nothing",
}


class WorkspaceForm(forms.Form):
    """The workspace's settings."""

    name = forms.CharField(max_length=120, help_text="Members and invited people see it.")
    postal_address = forms.CharField(
        label="Postal address",
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="Stands in the footer of every marketing mail. The law demands it in many "
        "countries, and a campaign cannot start without it.",
    )
    timezone = forms.ChoiceField(
        label="Time zone",
        choices=lambda: [(name, name) for name in sorted(zoneinfo.available_timezones())],
        help_text="Schedules and reports are shown in it.",
    )


class InviteForm(forms.Form):
    """Whom to invite, as what."""

    email = forms.EmailField(label="Email address", max_length=254)
    role = forms.ChoiceField(
        choices=[(role.value, role.label) for role in reversed(Role)], initial=Role.MARKETER
    )


class JoinForm(forms.Form):
    """What a new person says when accepting an invitation."""

    name = forms.CharField(
        label="Your name", max_length=150, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    password = forms.CharField(
        max_length=256,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 10 characters; a few words that do not belong together are good.",
    )


class TenantForm(forms.Form):
    """A new tenant and its first owner."""

    name = forms.CharField(max_length=120, help_text="The company or team that sends.")
    owner_email = forms.EmailField(
        label="Owner’s email address",
        max_length=254,
        help_text="Gets an invitation by mail, and runs the workspace from then on.",
    )


class SuspendForm(forms.Form):
    """Why a tenant is stopped."""

    reason = forms.CharField(
        max_length=300,
        help_text="The tenant’s members read it.",
        widget=forms.TextInput(attrs={"placeholder": "Complaints over 0.3 % since Monday"}),
    )


class WeightForm(forms.Form):
    """A tenant's share."""

    weight = forms.IntegerField(
        min_value=1,
        max_value=100,
        help_text="1 to 100. Where tenants wait for the same addresses, one with weight 3 gets "
        "three messages out for each one of a tenant with weight 1.",
    )
