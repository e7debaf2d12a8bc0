"""Addresses about a person."""

from __future__ import annotations

from django.urls import path

from tenants.accounts import views

urlpatterns = [
    path("sign-in", views.sign_in, name="accounts-sign-in"),
    path("sign-out", views.sign_out, name="accounts-sign-out"),
    path("password-reset", views.password_reset, name="accounts-password-reset"),
    path("password-reset/sent", views.password_reset_done, name="accounts-password-reset-done"),
    path(
        "password-reset/complete",
        views.password_reset_complete,
        name="accounts-password-reset-complete",
    ),
    path(
        "password-reset/<str:uidb64>/<str:token>",
        views.password_reset_confirm,
        name="accounts-password-reset-confirm",
    ),
    path("profile/", views.profile, name="accounts-profile"),
    path("profile/password", views.change_password, name="accounts-password-change"),
]
