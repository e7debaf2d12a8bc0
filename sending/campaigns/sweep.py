"""What the scheduler does for campaigns; every step may run twice or late without harm."""

from __future__ import annotations

import datetime as dt
import logging

from django.utils import timezone

from esp.lib.errors import Conflict, DomainError
from sending.campaigns.models import Campaign
from sending.campaigns.preparation import finish_if_sent, wake_preparers
from sending.campaigns.services import send_campaign
from tenants.directory.actor import system_actor
from tenants.scoping.context import scope

log = logging.getLogger(__name__)

# A preparation that has not moved for so long lost its worker or its wake-up.
_STALLED = dt.timedelta(seconds=20)
# The content of a campaign that comes due may have to be compiled again; then it is given up.
_COMPILE_PATIENCE = dt.timedelta(minutes=2)


def sweep_campaigns() -> None:
    """Start what is due, resume what stalled, end what is sent."""
    _start_due()
    _resume_stalled()
    _end_sent()


def _start_due() -> None:
    now = timezone.now()
    due = Campaign.unscoped.filter(status=Campaign.Status.SCHEDULED, scheduled_at__lte=now)
    for campaign in due.select_related("sender__domain"):
        with scope(campaign.tenant_id):
            _start(campaign)


def _start(campaign: Campaign) -> None:
    """Start one scheduled campaign; a closed gate makes it Failed, with the reason."""
    actor = system_actor(campaign.tenant_id, "Scheduler")
    try:
        send_campaign(actor=actor, campaign=campaign)
    except Conflict as error:
        waited = timezone.now() - (campaign.scheduled_at or timezone.now())
        if error.code == "compiling" and waited < _COMPILE_PATIENCE:
            return
        if error.code == "compiling":
            _fail(campaign, "The content could not be compiled in time.")
    except DomainError as error:
        _fail(campaign, error.message)


def _fail(campaign: Campaign, why: str) -> None:
    log.warning("the campaign %s could not start: %s", campaign.pk, why)
    Campaign.objects.filter(pk=campaign.pk, status=Campaign.Status.SCHEDULED).update(
        status=Campaign.Status.FAILED, failure=why[:500], finished_at=timezone.now()
    )


def _resume_stalled() -> None:
    stalled = Campaign.unscoped.filter(
        status=Campaign.Status.PREPARING,
        prepared_at=None,
        updated_at__lt=timezone.now() - _STALLED,
    )
    for campaign in stalled:
        wake_preparers(campaign)


def _end_sent() -> None:
    rows = Campaign.unscoped.filter(
        status=Campaign.Status.SENDING, prepared_at__isnull=False
    ).values_list("tenant_id", "pk")
    for tenant_id, campaign_id in rows:
        finish_if_sent(tenant_id=tenant_id, campaign_id=campaign_id)
