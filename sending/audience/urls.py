"""Addresses of the audience: members' pages below /audience/, visitors' below /f/."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from sending.audience.views import contacts, imports, lists, public

_pages = [
    path("", contacts.contact_list, name="contacts-list"),
    path("contacts/add", contacts.contact_add, name="contacts-add"),
    path("contacts/<str:contact_id>/", contacts.contact_detail, name="contacts-detail"),
    path("contacts/<str:contact_id>/edit", contacts.contact_edit, name="contacts-edit"),
    path("contacts/<str:contact_id>/delete", contacts.contact_delete, name="contacts-delete"),
    path(
        "contacts/<str:contact_id>/subscribe",
        contacts.contact_subscribe,
        name="contacts-subscribe",
    ),
    path(
        "contacts/<str:contact_id>/lists/<str:list_id>/unsubscribe",
        contacts.contact_unsubscribe,
        name="contacts-unsubscribe",
    ),
    path("attributes/", contacts.attribute_list, name="attributes-list"),
    path("attributes/add", contacts.attribute_add, name="attributes-add"),
    path(
        "attributes/<str:attribute_id>/remove",
        contacts.attribute_remove,
        name="attributes-remove",
    ),
    path("lists/", lists.list_list, name="lists-list"),
    path("lists/add", lists.list_add, name="lists-add"),
    path("lists/<str:list_id>/edit", lists.list_edit, name="lists-edit"),
    path("lists/<str:list_id>/archive", lists.list_archive, name="lists-archive"),
    path("imports/", imports.import_list, name="imports-list"),
    path("imports/add", imports.import_add, name="imports-add"),
    path("imports/<str:import_id>/", imports.import_detail, name="imports-detail"),
    path("imports/<str:import_id>/check", imports.import_check, name="imports-check"),
    path("imports/<str:import_id>/start", imports.import_start, name="imports-start"),
    path("imports/<str:import_id>/bad-rows.csv", imports.import_errors, name="imports-errors"),
    path("forms/", lists.form_list, name="forms-list"),
    path("forms/add", lists.form_add, name="forms-add"),
    path("forms/<str:form_id>/edit", lists.form_edit, name="forms-edit"),
    path("forms/<str:form_id>/delete", lists.form_delete, name="forms-delete"),
    path("suppressions/", lists.suppression_list, name="suppressions-list"),
    path("suppressions/add", lists.suppression_add, name="suppressions-add"),
    path("suppressions/export.csv", lists.suppression_export, name="suppressions-export"),
    path(
        "suppressions/<str:suppression_id>/remove",
        lists.suppression_remove,
        name="suppressions-remove",
    ),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("audience/", include(_pages)),
    path("f/confirm/<str:token>", public.confirm, name="public-confirm"),
    path("f/<str:address>", public.hosted_form, name="public-form"),
]
