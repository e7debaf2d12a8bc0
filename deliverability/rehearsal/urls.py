"""Addresses of the rehearsal pages."""

from __future__ import annotations

from django.urls import path

from deliverability.rehearsal import views

urlpatterns = [
    path("", views.mailboxes, name="rehearsal-mailboxes"),
    path("mail/<int:mail_id>/", views.mail, name="rehearsal-mail"),
    path("mail/<int:mail_id>/html", views.mail_html, name="rehearsal-mail-html"),
    path("publish/<str:domain_id>/", views.publish, name="rehearsal-publish"),
    path("<str:address>/", views.mailbox, name="rehearsal-mailbox"),
]
