"""The only way for a door to get a campaign."""

from __future__ import annotations

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from sending.campaigns.models import Campaign
from tenants.directory.actor import Actor


def access_campaign(actor: Actor, campaign_id: str, *, needs: str = "campaigns:read") -> Campaign:
    """Return the tenant's campaign `cmp_…`; raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        return Campaign.objects.select_related("sender__domain", "batch").get(
            pk=from_public("cmp", campaign_id)
        )
    except (ValueError, Campaign.DoesNotExist) as error:
        raise NotFound("There is no such campaign.") from error
