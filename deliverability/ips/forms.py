"""Forms of the operator's pages about source IPs and pools."""

from __future__ import annotations

from django import forms

from deliverability.ips.models import IpAddress, IpPool


class PoolForm(forms.Form):
    """A pool's name, purpose and whether everyone may use it."""

    name = forms.CharField(max_length=60)
    purpose = forms.ChoiceField(choices=IpPool.Purpose.choices)
    is_shared = forms.BooleanField(
        label="Shared",
        required=False,
        help_text="Tenants without a pool of their own send from it.",
    )


class AddressForm(forms.Form):
    """A source IP."""

    address = forms.GenericIPAddressField(
        label="IP address", help_text="One of this machine’s own addresses."
    )
    ehlo_name = forms.CharField(
        label="EHLO name", max_length=253, help_text="The host name its PTR record says."
    )
    pool = forms.ModelChoiceField(IpPool.objects.order_by("name"), to_field_name="name")


class AddressEditForm(forms.Form):
    """What can change about a source IP."""

    ehlo_name = forms.CharField(
        label="EHLO name", max_length=253, help_text="The host name its PTR record says."
    )
    pool = forms.ModelChoiceField(IpPool.objects.order_by("name"), to_field_name="name")
    status = forms.ChoiceField(
        choices=IpAddress.Status.choices,
        help_text="A draining address takes no new message; one that is off is not used at all.",
    )


class RuleForm(forms.Form):
    """Which pool a tenant's stream uses; an empty pool takes the rule away."""

    stream = forms.ChoiceField(choices=IpPool.Purpose.choices)
    pool = forms.ModelChoiceField(
        IpPool.objects.order_by("name"),
        to_field_name="name",
        required=False,
        empty_label="The shared pool",
    )
