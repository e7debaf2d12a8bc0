"""The only way for a door to get a template or a compiled version."""

from __future__ import annotations

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from sending.content.models import CompiledVersion, Template
from tenants.directory.actor import Actor


def access_template(actor: Actor, template_id: str, *, needs: str = "templates:read") -> Template:
    """Return the tenant's template `tpl_…`; raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        return Template.objects.get(pk=from_public("tpl", template_id))
    except (ValueError, Template.DoesNotExist) as error:
        raise NotFound("There is no such template.") from error


def access_version(
    actor: Actor, version_id: str, *, needs: str = "templates:read"
) -> CompiledVersion:
    """Return the tenant's compiled version `cpl_…`; raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        return CompiledVersion.objects.get(pk=from_public("cpl", version_id))
    except (ValueError, CompiledVersion.DoesNotExist) as error:
        raise NotFound("This preview is gone. Load the page again.") from error
