"""Addresses of the template pages."""

from __future__ import annotations

from django.urls import path

from sending.content import views

urlpatterns = [
    path("", views.template_list, name="templates-list"),
    path("add/", views.template_create, name="templates-add"),
    path("<str:template_id>/", views.template_edit, name="templates-edit"),
    path("<str:template_id>/duplicate/", views.template_duplicate, name="templates-duplicate"),
    path("<str:template_id>/delete/", views.template_delete, name="templates-delete"),
]
