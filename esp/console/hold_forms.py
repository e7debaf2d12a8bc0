"""The form by which an operator holds mail."""

from __future__ import annotations

import datetime as dt

from django import forms
from django.utils import timezone

_HOURS = [("", "Until somebody lifts it"), ("1", "1 hour"), ("4", "4 hours"), ("24", "1 day"),
          ("168", "7 days")]  # fmt: skip


class HoldForm(forms.Form):
    """Whose mail is held, which part of it, for how long and why."""

    tenant = forms.CharField(
        label="Tenant", max_length=120, help_text="Its name, or its id (ten_…)."
    )
    campaign = forms.CharField(
        label="Only this campaign",
        max_length=40,
        required=False,
        help_text="Its id (cmp_…), or empty for all that the tenant sends.",
    )
    stream = forms.ChoiceField(
        label="Stream",
        required=False,
        choices=[("", "Both"), ("transactional", "Transactional"), ("broadcast", "Broadcast")],
    )
    hours = forms.ChoiceField(label="For", required=False, choices=_HOURS)
    reason = forms.CharField(
        label="Because", max_length=300, help_text="The tenant reads this sentence."
    )

    def until(self) -> dt.datetime | None:
        """Return when the hold ends; None is when somebody lifts it."""
        hours = self.cleaned_data["hours"]
        return timezone.now() + dt.timedelta(hours=int(hours)) if hours else None
