"""Addresses of the operator's pages about source IPs, pools and nodes."""

from __future__ import annotations

from django.urls import path

from deliverability.ips import views

_NODE = "ips/nodes/<str:name>"

urlpatterns = [
    path("ips/", views.ips_list, name="operator-ips"),
    path("ips/pools/new", views.create_pool, name="operator-pool-create"),
    path("ips/pools/<str:pool_id>/", views.edit_pool, name="operator-pool"),
    path("ips/pools/<str:pool_id>/remove", views.remove_pool, name="operator-pool-remove"),
    path("ips/nodes/", views.nodes_list, name="operator-nodes"),
    path(f"{_NODE}/drain", views.change_node, {"verb": "drain"}, name="operator-node-drain"),
    path(f"{_NODE}/resume", views.change_node, {"verb": "resume"}, name="operator-node-resume"),
    path(f"{_NODE}/forget", views.change_node, {"verb": "forget"}, name="operator-node-forget"),
    path("ips/new", views.add_address, name="operator-ip-add"),
    path("ips/<str:address_id>/", views.edit_address, name="operator-ip"),
    path("ips/<str:address_id>/remove", views.remove_address, name="operator-ip-remove"),
    path("ips/<str:address_id>/check", views.check_ptr, name="operator-ip-check"),
    path("ips/<str:address_id>/caps", views.set_cap, name="operator-ip-cap"),
    path("ips/<str:address_id>/caps/<int:cap_id>/clear", views.clear_cap, name="operator-ip-uncap"),
    path("tenants/<str:tenant_id>/pool", views.assign_pool, name="operator-assign-pool"),
]
