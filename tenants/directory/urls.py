"""Addresses of the workspace, its members and invitations."""

from __future__ import annotations

from django.urls import path

from tenants.directory import views

urlpatterns = [
    path("workspace/switch", views.switch_workspace, name="directory-switch"),
    path("settings/", views.workspace_settings, name="settings-workspace"),
    path("settings/leave", views.leave_workspace, name="workspace-leave"),
    path("settings/members/", views.members_list, name="members-list"),
    path("settings/members/invite", views.invite, name="members-invite"),
    path("settings/members/<str:member_id>/role", views.change_role, name="members-change-role"),
    path("settings/members/<str:member_id>/remove", views.remove_member, name="members-remove"),
    path(
        "settings/invitations/<str:invitation_id>/revoke",
        views.revoke_invitation,
        name="invitations-revoke",
    ),
    path("invitations/<str:token>", views.accept_invitation, name="invitation-accept"),
]
