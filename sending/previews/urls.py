"""Addresses of previews."""

from __future__ import annotations

from django.urls import path

from sending.previews import views

urlpatterns = [
    path("", views.show, name="previews-show"),
    path("panel/", views.panel, name="previews-panel"),
    path("tags/", views.tags, name="previews-tags"),
    path("contacts/", views.contacts, name="previews-contacts"),
    path("test/<str:template_id>/", views.test, name="previews-test"),
    path("<str:version_id>/", views.look, name="previews-look"),
    path("<str:version_id>/page/", views.page, name="previews-page"),
]
