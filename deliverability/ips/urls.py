"""Addresses of the operator's pages about source IPs and pools."""

from __future__ import annotations

from django.urls import path

from deliverability.ips import views

urlpatterns = [
    path("ips/", views.ips_list, name="operator-ips"),
    path("ips/pools/new", views.create_pool, name="operator-pool-create"),
    path("ips/pools/<str:pool_id>/", views.edit_pool, name="operator-pool"),
    path("ips/pools/<str:pool_id>/remove", views.remove_pool, name="operator-pool-remove"),
    path("ips/new", views.add_address, name="operator-ip-add"),
    path("ips/<str:address_id>/", views.edit_address, name="operator-ip"),
    path("tenants/<str:tenant_id>/pool", views.assign_pool, name="operator-assign-pool"),
]
