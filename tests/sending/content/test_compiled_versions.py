"""Compiling in a worker: asked once, taken once, given up when the worker died over it."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.utils import timezone

from sending.content.models import CompiledVersion
from sending.content.preview import preview, preview_of_version
from sending.content.services import (
    KEEP_VERSIONS,
    compile_version,
    compiled_of,
    forget_versions,
    look_after,
    request_compiled,
)
from sending.content.types import ContentSource
from tenants.scoping.context import scope
from tests.cast import Cast

SOURCE = ContentSource(kind="html", body="<p>Hi {{ city }}</p>", subject="Hi")


def _run(version: CompiledVersion) -> CompiledVersion:
    compile_version(tenant_id=version.tenant_id, version_id=version.pk)
    version.refresh_from_db()
    return version


def test_the_same_content_is_compiled_once_for_a_tenant(acme_scope: uuid.UUID, cast: Cast) -> None:
    first = request_compiled(source=SOURCE, footer=True)
    assert request_compiled(source=SOURCE, footer=True).pk == first.pk
    assert request_compiled(source=SOURCE, footer=False).pk != first.pk
    with scope(cast.globex.pk):
        assert request_compiled(source=SOURCE, footer=True).pk != first.pk


def test_a_worker_leaves_its_result(acme_scope: uuid.UUID) -> None:
    version = _run(request_compiled(source=SOURCE, footer=True))
    assert version.started_at is not None
    assert compiled_of(version).fields == ("city",)


def test_a_version_that_a_worker_has_begun_is_left_to_it(acme_scope: uuid.UUID) -> None:
    version = request_compiled(source=SOURCE, footer=True)
    CompiledVersion.objects.filter(pk=version.pk).update(started_at=timezone.now())
    assert _run(version).finished_at is None


def test_content_over_which_a_worker_died_is_given_up(acme_scope: uuid.UUID) -> None:
    version = request_compiled(source=SOURCE, footer=True)
    begun = timezone.now() - dt.timedelta(seconds=31)
    CompiledVersion.objects.filter(pk=version.pk).update(started_at=begun)
    found = preview(SOURCE, {}, footer=True)
    assert found.state == "problem"
    assert "could not be compiled" in found.problem
    assert _run(version).problem == found.problem, "no other worker is sent after it"


@pytest.mark.django_db(transaction=False)
def test_content_that_no_worker_has_taken_yet_is_asked_for_again(
    acme_scope: uuid.UUID, django_capture_on_commit_callbacks: object
) -> None:
    version = request_compiled(source=SOURCE, footer=True)
    long_ago = timezone.now() - dt.timedelta(hours=2)
    CompiledVersion.objects.filter(pk=version.pk).update(asked_at=long_ago)
    version.refresh_from_db()
    with django_capture_on_commit_callbacks() as calls:  # type: ignore[operator]
        assert look_after(version).finished_at is None
    assert len(calls) == 1
    version.refresh_from_db()
    assert version.asked_at > long_ago
    assert preview_of_version(version, {}, footer=True).state == "compiling"
    assert preview_of_version(_run(version), {}, footer=True).state == "ready"


def test_old_versions_are_forgotten_and_can_be_asked_for_again(acme_scope: uuid.UUID) -> None:
    old = _run(request_compiled(source=SOURCE, footer=True))
    young = request_compiled(source=SOURCE, footer=False)
    before = timezone.now() - KEEP_VERSIONS - dt.timedelta(minutes=1)
    CompiledVersion.objects.filter(pk=old.pk).update(created_at=before)
    assert forget_versions() == 1
    assert list(CompiledVersion.objects.all()) == [young]
    assert request_compiled(source=SOURCE, footer=True).pk != old.pk
