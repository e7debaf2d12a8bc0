"""The base of every table that belongs to a tenant."""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar

from django.db import models

from esp.lib.ids import new_id, to_public
from tenants.scoping.context import current_tenant_id

_M_co = TypeVar("_M_co", bound=models.Model, covariant=True)


class TenantManager(models.Manager[_M_co]):
    """Answers only for the tenant in scope, and raises ScopeMissing where none is."""

    def get_queryset(self) -> models.QuerySet[_M_co]:
        return super().get_queryset().filter(tenant_id=current_tenant_id())


class UnscopedManager(models.Manager[_M_co]):
    """For workers that cross tenants by design (their database role may, the web's may not)."""


class TenantModel(models.Model):
    """A row of one tenant, with a UUIDv7 key."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False
    )

    PREFIX: ClassVar[str] = ""  # of the public id: "con", "cmp", …

    objects: ClassVar[TenantManager[Self]] = TenantManager()
    unscoped: ClassVar[UnscopedManager[Self]] = UnscopedManager()

    class Meta:
        abstract = True
        # Related objects and refreshes go by keys that the scope has checked already.
        base_manager_name = "unscoped"
        default_manager_name = "objects"

    @property
    def public_id(self) -> str:
        """The id that users see, such as `cmp_01h455vb4pex5vsknk084sn02q`."""
        return to_public(self.PREFIX, self.pk)

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.tenant_id is None:
            self.tenant_id = current_tenant_id()
        super().save(*args, **kwargs)


class HotTenantModel(TenantModel):
    """A tenant's row in a table that is written by the million.

    The tenant's key is not checked by a constraint: each check would lock the tenant's row, and
    thousands of inserts a second of one tenant would meet there.
    """

    tenant = models.ForeignKey(
        "tenants.Tenant",
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )

    class Meta(TenantModel.Meta):
        abstract = True
