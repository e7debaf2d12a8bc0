"""The address of the audit log."""

from __future__ import annotations

from django.urls import path

from tenants.audit import views

urlpatterns = [path("", views.audit_list, name="audit-list")]
