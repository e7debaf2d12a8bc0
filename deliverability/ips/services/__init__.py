"""What operators do with source IPs, pools, caps and nodes; each change stands in an audit log.

Changes of IPs, pools and nodes are recorded for the product's own tenant, a tenant's rule in its
own log.
"""

from __future__ import annotations

from deliverability.ips.services.addresses import add_address, remove_address, update_address
from deliverability.ips.services.caps import clear_cap, set_cap
from deliverability.ips.services.checks import check_addresses, check_nodes, check_ptr
from deliverability.ips.services.nodes import drain_node, forget_node, resume_node
from deliverability.ips.services.pools import (
    PoolFields,
    assign_pool,
    create_pool,
    remove_pool,
    update_pool,
)

__all__ = [
    "PoolFields",
    "add_address",
    "assign_pool",
    "check_addresses",
    "check_nodes",
    "check_ptr",
    "clear_cap",
    "create_pool",
    "drain_node",
    "forget_node",
    "remove_address",
    "remove_pool",
    "resume_node",
    "set_cap",
    "update_address",
    "update_pool",
]
