"""Nodes as operators handle them: drain before maintenance, forget what is gone."""

from __future__ import annotations

from deliverability.ips.models import DeliveryNode, IpAddress
from deliverability.ips.recording import record_change, require_operator
from esp.lib.errors import Conflict, NotFound
from tenants.accounts.models import User


def drain_node(*, operator: User, name: str) -> None:
    """Let a node take no new mail; what it has in hand goes out. Raises NotFound."""
    _set_draining(operator, name, is_draining=True)
    record_change(operator, "ips.drain_node", name)


def resume_node(*, operator: User, name: str) -> None:
    """Let a drained node send again. Raises NotFound."""
    _set_draining(operator, name, is_draining=False)
    record_change(operator, "ips.resume_node", name)


def _set_draining(operator: User, name: str, *, is_draining: bool) -> None:
    require_operator(operator)
    if not DeliveryNode.objects.filter(name=name).update(is_draining=is_draining):
        raise NotFound("There is no such node.")


def forget_node(*, operator: User, name: str) -> None:
    """Take a node off the list; one that lives comes back by itself. Raises NotFound, Conflict."""
    require_operator(operator)
    if IpAddress.objects.filter(node=name).exists():
        raise Conflict("The node still has addresses: give them to another node first.")
    if not DeliveryNode.objects.filter(name=name).delete()[0]:
        raise NotFound("There is no such node.")
    record_change(operator, "ips.forget_node", name)
