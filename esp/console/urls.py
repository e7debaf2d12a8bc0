"""Addresses of the operator's pages about tenants, lanes and limits."""

from __future__ import annotations

from django.urls import path

from esp.console import hold_views, lane_views, views

urlpatterns = [
    path("", views.tenants_list, name="operator-tenants"),
    path("tenants/new", views.create_tenant, name="operator-tenant-create"),
    path("tenants/<str:tenant_id>/", views.inspect_tenant, name="operator-tenant"),
    path("tenants/<str:tenant_id>/suspend", views.suspend, name="operator-suspend"),
    path("tenants/<str:tenant_id>/unsuspend", views.unsuspend, name="operator-unsuspend"),
    path("tenants/<str:tenant_id>/weight", views.set_weight, name="operator-weight"),
    path("lanes/", lane_views.lanes_list, name="operator-lanes"),
    path("lanes/<str:lane_id>/", lane_views.inspect_lane, name="operator-lane"),
    path("lanes/<str:lane_id>/limits", lane_views.set_lane_limits, name="operator-lane-limits"),
    path("lanes/<str:lane_id>/pause", lane_views.pause, name="operator-lane-pause"),
    path("lanes/<str:lane_id>/resume", lane_views.resume, name="operator-lane-resume"),
    path("lanes/<str:lane_id>/lift", lane_views.lift, name="operator-lane-lift"),
    path("lanes/<str:lane_id>/requeue", lane_views.requeue, name="operator-lane-requeue"),
    path("lanes/<str:lane_id>/drain", lane_views.drain, name="operator-lane-drain"),
    path("lanes/<str:lane_id>/bounce", lane_views.bounce, name="operator-lane-bounce"),
    path("holds/", hold_views.holds, name="operator-holds"),
    path("holds/<str:tenant_id>/<str:hold_id>/lift", hold_views.lift, name="operator-hold-lift"),
    path("limits/", lane_views.limits, name="operator-limits"),
    path("limits/<str:limit_id>/clear", lane_views.clear_limit, name="operator-limit-clear"),
]
