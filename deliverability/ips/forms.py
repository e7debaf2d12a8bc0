"""Forms of the operator's pages about source IPs and pools."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from typing import Any

from django import forms

from deliverability.ips.models import DeliveryNode, IpAddress, IpPool
from deliverability.ips.services import PoolFields
from deliverability.ips.services.addresses import MAX_WEIGHT, AddressFields
from deliverability.ips.services.caps import MAX_CAP


def _pools(**kwargs: Any) -> forms.ModelChoiceField[IpPool]:
    return forms.ModelChoiceField(IpPool.objects.order_by("name"), to_field_name="name", **kwargs)


class PoolForm(forms.Form):
    """A pool's name, purpose, kind, and where its mail overflows to."""

    name = forms.CharField(max_length=60)
    purpose = forms.ChoiceField(choices=IpPool.Purpose.choices)
    kind = forms.ChoiceField(
        choices=IpPool.Kind.choices,
        help_text="Tenants without a pool of their own send from the shared ones. The others are "
        "for tenants that are assigned to them; a tenant in a high-risk pool never falls to a "
        "shared one.",
    )
    overflow_pool = _pools(
        label="Overflows to",
        required=False,
        empty_label="No other pool",
        help_text="The pool that takes the mail which finds no room here, such as a warm one.",
    )
    overflow_when = forms.ChoiceField(label="Mail overflows", choices=IpPool.Overflow.choices)

    def fields_in(self) -> PoolFields:
        """Return what was entered."""
        return PoolFields(**self.cleaned_data)


class _AddressFieldsForm(forms.Form):
    """What an operator says about a source IP, whether it is new or known."""

    ehlo_name = forms.CharField(
        label="EHLO name", max_length=253, help_text="The host name its PTR record says."
    )
    pool = _pools()
    weight = forms.IntegerField(
        min_value=1, max_value=MAX_WEIGHT, initial=1, help_text="Its share of the pool’s mail."
    )
    node = forms.CharField(
        max_length=100, required=False, help_text="Empty: every node can bind the address."
    )
    place = forms.CharField(
        max_length=60, required=False, help_text="Where that is, for people: a city, a rack."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = list(DeliveryNode.objects.order_by("name").values_list("name", flat=True)[:6])
        if names:
            self.fields["node"].help_text = (
                "The host that has the address; only its workers send from it. Empty: every node "
                f"can bind it. Seen so far: {', '.join(names)}."
            )


class AddressForm(_AddressFieldsForm):
    """A new source IP."""

    address = forms.GenericIPAddressField(
        label="IP address", help_text="An address of the machine that sends."
    )
    field_order = ["address"]

    def fields_in(self) -> AddressFields:
        """Return what was entered beside the address."""
        data = {key: value for key, value in self.cleaned_data.items() if key != "address"}
        return AddressFields(**data)


class AddressEditForm(_AddressFieldsForm):
    """What can change about a source IP."""

    status = forms.ChoiceField(
        choices=IpAddress.Status.choices,
        help_text="A draining or quarantined address takes no new message, what is in hand goes "
        "out; the pool’s other addresses take over.",
    )
    status_reason = forms.CharField(
        label="Reason",
        max_length=300,
        required=False,
        help_text="Why it is not active; a quarantine needs one. Shown where mail waits for it.",
    )
    field_order = ["status", "status_reason"]

    def fields_in(self) -> AddressFields:
        """Return what was entered."""
        return AddressFields(**self.cleaned_data)


class CapForm(forms.Form):
    """How much an address may send on a day."""

    on = forms.DateField(
        label="Day (UTC)",
        initial=lambda: dt.datetime.now(dt.UTC).date(),
        widget=forms.DateInput(attrs={"type": "date"}),
    )
    site = forms.CharField(
        max_length=60,
        required=False,
        help_text="A mailbox provider as on the lanes page. Empty: each one without a cap of its "
        "own.",
    )
    messages = forms.IntegerField(min_value=0, max_value=MAX_CAP)


class RuleForm(forms.Form):
    """Which pool a tenant's stream uses; an empty pool takes the rule away."""

    stream = forms.ChoiceField(choices=IpPool.Purpose.choices)
    domain = forms.TypedChoiceField(
        label="Sending domain", coerce=uuid.UUID, empty_value=None, required=False
    )
    pool = _pools(required=False, empty_label="The shared pool")

    def __init__(
        self, *args: Any, domains: Sequence[tuple[uuid.UUID, str]] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["domain"]
        assert isinstance(field, forms.TypedChoiceField)
        field.choices = [("", "All domains"), *((str(key), name) for key, name in domains)]
