"""Addresses of the dashboard, campaigns and reports."""

from __future__ import annotations

from django.urls import URLPattern, path

from sending.campaigns.views import dashboard, editor, listing, live, reports, review

_ONE = "campaigns/<str:campaign_id>/"

urlpatterns: list[URLPattern] = [
    path("", dashboard.dashboard, name="dashboard"),
    path("campaigns/", listing.campaign_list, name="campaigns-list"),
    path("campaigns/add/", listing.campaign_add, name="campaigns-add"),
    path(_ONE, live.campaign_detail, name="campaigns-detail"),
    path(f"{_ONE}waiting/", live.campaign_waiting, name="campaigns-waiting"),
    path(f"{_ONE}edit/", editor.campaign_edit, name="campaigns-edit"),
    path(f"{_ONE}save/<str:card>/", editor.card_save, name="campaigns-save"),
    path(f"{_ONE}use-template/", editor.template_use, name="campaigns-use-template"),
    path(f"{_ONE}count/", editor.recipient_count, name="campaigns-count"),
    path(f"{_ONE}state/", editor.editor_state, name="campaigns-state"),
    path(f"{_ONE}preview/", editor.preview_state, name="campaigns-preview"),
    path(f"{_ONE}preview/frame/", editor.preview_frame, name="campaigns-preview-frame"),
    path(f"{_ONE}test/", editor.test_send, name="campaigns-test"),
    path(f"{_ONE}review/", review.campaign_review, name="campaigns-review"),
    path(f"{_ONE}send/", review.campaign_send, name="campaigns-send"),
    path(f"{_ONE}schedule/", review.campaign_schedule, name="campaigns-schedule"),
    path(f"{_ONE}unschedule/", live.campaign_unschedule, name="campaigns-unschedule"),
    path(f"{_ONE}pause/", live.campaign_pause, name="campaigns-pause"),
    path(f"{_ONE}resume/", live.campaign_resume, name="campaigns-resume"),
    path(f"{_ONE}cancel/", live.campaign_cancel, name="campaigns-cancel"),
    path(f"{_ONE}duplicate/", listing.campaign_duplicate, name="campaigns-duplicate"),
    path(f"{_ONE}delete/", listing.campaign_delete, name="campaigns-delete"),
    path("reports/", reports.report_list, name="reports-list"),
    path("reports/<str:campaign_id>/", reports.report_detail, name="reports-detail"),
    path("reports/<str:campaign_id>/recipients.csv", reports.report_export, name="reports-export"),
]
