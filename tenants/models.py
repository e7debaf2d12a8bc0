"""The tenants app's tables, gathered for Django from its rooms."""

from __future__ import annotations

from tenants.accounts.models import User
from tenants.apikeys.models import ApiKey
from tenants.audit.models import AuditEntry
from tenants.directory.models import Invitation, Membership, Tenant

__all__ = ["ApiKey", "AuditEntry", "Invitation", "Membership", "Tenant", "User"]
