"""Addresses of the operators' pages about routes."""

from __future__ import annotations

from django.urls import path

from sending.routes import views, webhook_views

urlpatterns = [
    path("routes/", views.routes_list, name="operator-routes"),
    path("routes/new", views.choose_kind, name="operator-route-choose"),
    path("routes/new/<str:kind>", views.create_route, name="operator-route-create"),
    path("routes/sets/", views.sets_list, name="operator-route-sets"),
    path("routes/sets/new", views.create_set, name="operator-route-set-create"),
    path("routes/sets/<str:set_id>/", views.edit_set, name="operator-route-set"),
    path("routes/sets/<str:set_id>/remove", views.remove_set, name="operator-route-set-remove"),
    path("routes/defaults", views.set_default, name="operator-route-default"),
    path("routes/<str:route_id>/", views.edit_route, name="operator-route"),
    path("routes/<str:route_id>/test", views.test_route, name="operator-route-test"),
    path(
        "routes/<str:route_id>/webhook", webhook_views.edit_webhook, name="operator-route-webhook"
    ),
    path(
        "routes/<str:route_id>/webhook/renew",
        webhook_views.renew_webhook,
        name="operator-route-webhook-renew",
    ),
    path("routes/<str:route_id>/remove", views.remove_route, name="operator-route-remove"),
    path("tenants/<str:tenant_id>/routes", views.tenant_routes, name="operator-tenant-routes"),
]
