"""Addresses of the operator's pages about tenants."""

from __future__ import annotations

from django.urls import path

from esp.console import views

urlpatterns = [
    path("", views.tenants_list, name="operator-tenants"),
    path("tenants/new", views.create_tenant, name="operator-tenant-create"),
    path("tenants/<str:tenant_id>/", views.inspect_tenant, name="operator-tenant"),
    path("tenants/<str:tenant_id>/suspend", views.suspend, name="operator-suspend"),
    path("tenants/<str:tenant_id>/unsuspend", views.unsuspend, name="operator-unsuspend"),
    path("tenants/<str:tenant_id>/weight", views.set_weight, name="operator-weight"),
]
