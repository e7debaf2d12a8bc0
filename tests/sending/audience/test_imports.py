"""Imports: hostile files get reasons, never a 500; a killed run goes on exactly."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from esp.lib.errors import InvalidInput
from sending.audience import import_files, import_sql, importer
from sending.audience.csv_source import MAX_RECORD
from sending.audience.models import (
    AttributeDefinition,
    Contact,
    Import,
    Subscription,
    SubscriptionChange,
)
from sending.audience.services import imports as services
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_ROOT = tmp_path


def upload(cast: Cast, data: bytes, name: str = "people.csv") -> Import:
    file = SimpleUploadedFile(name, data, "text/csv")
    return services.upload_import(actor=cast.alice_actor, file=file)


def settle(cast: Cast, job: Import, **changes: Any) -> Import:
    values: dict[str, Any] = {
        "targets": job.mapping,
        "contact_list": None,
        "on_duplicate": "update",
        "consent_text": "They agreed.",
        "has_header": job.dialect["has_header"],
        **changes,
    }
    services.check_import(actor=cast.alice_actor, job=job, **values)
    Import.unscoped.filter(pk=job.pk).update(heartbeat_at=None)
    assert importer.check(job.pk)
    job.refresh_from_db()
    assert job.status == "checked"
    return job


def run(cast: Cast, job: Import) -> dict[str, int]:
    services.start_import(actor=cast.alice_actor, job=job)
    assert importer.run(job.pk)
    job.refresh_from_db()
    assert job.status == "done"
    return dict(job.counts["totals"])


def bad_rows(job: Import) -> list[list[str]]:
    text = importer.upload_path(job.errors_path).read_text("utf-8-sig")
    return list(csv.reader(io.StringIO(text)))[1:]


HOSTILE = {
    "broken bytes": (b"email,first_name\ng@b.test,J\xc3\xbcrgen\nx@b.test,J\xfcrgen\n", "bytes"),
    "open quote": (b'email,first_name\nx@b.test,"Bob\ng@b.test,Good\n', "never closed"),
    "quote inside": (b'email,first_name\nx@b.test,"Bo"b"\ng@b.test,Good\n', "quotation"),
    "ten megabyte line": (
        b"email,first_name\nx@b.test," + b"y" * 10_000_000 + b"\ng@b.test,Good\n",
        "longer than",
    ),
    "NUL": (b"email,first_name\nx\x00@b.test,Bob\ng@b.test,Good\n", "NUL"),
    "ragged": (b"email,first_name\nx@b.test,a,b,c\ng@b.test,Good\n", "cells"),
    "no address": (b"email,first_name\n,Bob\ng@b.test,Good\n", "missing"),
    "bad address": (b"email,first_name\nbob at b.test,Bob\ng@b.test,Good\n", "not a valid"),
    "header injection": (b'email,first_name\n"x@b.test\nBcc: y@b.test",B\ng@b.test,G\n', "control"),
    "line break in a name": (b'email,first_name\nx@b.test,"B\nC"\ng@b.test,Good\n', "line break"),
    "long name": (b"email,first_name\nx@b.test," + b"y" * 101 + b"\ng@b.test,Good\n", "longer"),
    "twice": (b"email,first_name\ng@b.test,Good\nG@B.test,Again\n", "before"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_row_costs_itself_and_says_why(cast: Cast, case: str) -> None:
    data, reason = HOSTILE[case]
    job = settle(cast, upload(cast, data))
    rows = bad_rows(job)
    assert len(rows) == 1
    assert reason in rows[0][1]
    run(cast, job)
    assert Contact.unscoped.get().email_norm == "g@b.test"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "No row"),
        (b"\n\n\n", "No row"),
        (b"PK\x03\x04rest", "Excel"),
        (b"%PDF-1.7", "PDF"),
        (b"x" * 300_000, "No row"),
        (b"," * 500, "columns"),
    ],
)
def test_what_is_no_table_is_refused_politely(cast: Cast, data: bytes, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        upload(cast, data)
    assert not Import.unscoped.exists()
    assert not [path for path in importer.upload_path("").rglob("*") if path.is_file()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_common_files_are_read(cast: Cast, encoding: str, delimiter: str, end: str) -> None:
    lines = [["E-Mail", "Vorname", "Nachname"], ["a@b.test", "Jürgen", '"Groß"']]
    data = end.join(delimiter.join(cells) for cells in lines).encode(encoding)
    job = settle(cast, upload(cast, data))
    run(cast, job)
    contact = Contact.unscoped.get()
    assert (contact.first_name, contact.last_name) == ("Jürgen", "Groß")


def test_header_only_imports_nothing(cast: Cast) -> None:
    job = settle(cast, upload(cast, b"email,first_name\n"))
    assert job.counts["totals"]["rows"] == 0


def test_a_file_without_header_is_recognised(cast: Cast) -> None:
    job = upload(cast, b"a@b.test,Ann\nc@d.test,Bob\n")
    assert (job.dialect["has_header"], job.mapping) == (False, ["email", ""])
    assert run(cast, settle(cast, job))["new"] == 2


def test_two_columns_cannot_be_one_field(cast: Cast) -> None:
    job = upload(cast, b"email,email\na@b.test,c@d.test\n")
    assert job.mapping == ["email", ""]
    with pytest.raises(InvalidInput, match="Two columns"):
        settle(cast, job, targets=["email", "email"])
    with pytest.raises(InvalidInput, match="holds the e-mail"):
        settle(cast, job, targets=["", ""])


def test_formulas_stay_text_and_leave_with_an_apostrophe(cast: Cast) -> None:
    data = b"email,first_name\na@b.test,=cmd|' /C calc'!A0\nbad,=HYPERLINK(1)\n"
    job = settle(cast, upload(cast, data))
    assert bad_rows(job)[0][2:] == ["bad", "'=HYPERLINK(1)"]
    run(cast, job)
    assert Contact.unscoped.get().first_name.startswith("=cmd")


def test_nobody_who_left_is_brought_back(cast: Cast) -> None:
    chosen = make.contact_list(cast.acme)
    for status in ("unsubscribed", "unconfirmed", "subscribed"):
        make.subscription(make.contact(cast.acme, f"{status}@b.test"), chosen, status)
    make.suppression(cast.acme, "blocked@b.test")
    data = b"email\nunsubscribed@b.test\nunconfirmed@b.test\nsubscribed@b.test\n"
    job = upload(cast, data + b"blocked@b.test\nnew@b.test\n")
    totals = run(cast, settle(cast, job, contact_list=chosen))
    found = dict(Subscription.unscoped.values_list("contact__email_norm", "status"))
    assert found == {
        "unsubscribed@b.test": "unsubscribed",
        "unconfirmed@b.test": "unconfirmed",
        "subscribed@b.test": "subscribed",
        "new@b.test": "subscribed",
    }
    assert totals["subscribed"] == 1
    assert (totals["unsubscribed"], totals["suppressed"]) == (1, 1)
    change = SubscriptionChange.unscoped.get()
    assert (change.consent_text, change.source) == ("They agreed.", f"import:{job.public_id}")


@pytest.mark.parametrize(("policy", "name"), [("update", "New"), ("skip", "Old")])
def test_known_contacts_follow_the_policy(cast: Cast, policy: str, name: str) -> None:
    make.contact(cast.acme, "a@b.test", first_name="Old", last_name="Kept")
    data = b"email,first_name,last_name\na@b.test,New,\n"
    totals = run(cast, settle(cast, upload(cast, data), on_duplicate=policy))
    contact = Contact.unscoped.get()
    assert (contact.first_name, contact.last_name) == (name, "Kept")
    assert (totals["new"], totals["known"]) == (0, 1)


def test_a_known_contact_keeps_what_the_file_does_not_say(cast: Cast) -> None:
    job = upload(cast, b"email,city\na@b.test,Oslo\nc@d.test,Rome\ne@f.test,\n")
    run(cast, settle(cast, job, targets=["email", "new:text"]))
    key = AttributeDefinition.unscoped.get().key
    known = dict(Contact.unscoped.values_list("email_norm", "pk"))
    Contact.unscoped.update(first_name="Old", attributes={key: "Oslo", "plan": "gold"})
    job = upload(cast, b"email,city\na@b.test,Oslo\nc@d.test,Bonn\ne@f.test,\n")
    totals = run(cast, settle(cast, job))
    assert (totals["new"], totals["known"], totals["updated"]) == (0, 3, 1)
    assert dict(Contact.unscoped.values_list("email_norm", "pk")) == known
    changed = Contact.unscoped.get(email_norm="c@d.test")
    assert changed.attributes == {key: "Bonn", "plan": "gold"}
    assert (changed.first_name, changed.email) == ("Old", "c@d.test")


def test_a_column_becomes_a_typed_attribute(cast: Cast) -> None:
    job = upload(cast, "email,Größe in cm\na@b.test,180\nc@d.test,tall\n".encode())
    job = settle(cast, job, targets=["email", "new:number"])
    assert AttributeDefinition.unscoped.get().kind == "number"
    assert "not a number" in bad_rows(job)[0][1]
    run(cast, job)
    assert list(Contact.unscoped.get().attributes.values()) == [180]


def test_a_killed_run_goes_on_exactly(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "BATCH_ROWS", 10)
    chosen = make.contact_list(cast.acme)
    rows = [f"r{n}@b.test" if n % 7 else "bad" for n in range(100)] + ["r1@b.test"]
    job = upload(cast, ("email\n" + "\n".join(rows) + "\n").encode())
    job = settle(cast, job, contact_list=chosen)
    expected = job.counts
    services.start_import(actor=cast.alice_actor, job=job)
    write, calls = importer.import_sql.write, []

    def die_at_the_fifth(target: Any) -> tuple[int, int]:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return write(target)

    monkeypatch.setattr(importer.import_sql, "write", die_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        importer.run(job.pk)
    monkeypatch.setattr(importer.import_sql, "write", write)
    job.refresh_from_db()
    assert job.status == "running"
    assert job.counts["totals"]["rows"] == 40
    assert not importer.run(job.pk), "the claim of the dead worker still holds"
    Import.unscoped.filter(pk=job.pk).update(heartbeat_at="2020-01-01T00:00:00Z")
    with scope(cast.acme.pk):
        assert importer.run(job.pk)
    job.refresh_from_db()
    assert job.counts["reasons"] == expected["reasons"]
    assert job.counts["totals"]["rows"] == 101
    assert job.counts["totals"]["duplicates"] == 1
    assert Subscription.unscoped.count() == expected["totals"]["valid"]
    assert SubscriptionChange.unscoped.count() == expected["totals"]["valid"]
    assert len(bad_rows(job)) == 16


def test_the_pages_lead_from_file_to_contacts(alice: Client, cast: Cast) -> None:
    file = SimpleUploadedFile("people.csv", b"email,name\na@b.test,Ann\nbad,Bob\n")
    answer = alice.post("/audience/imports/add", {"file": file})
    page = answer["Location"]
    assert b"Check the file" in alice.get(page).content
    wrong = {"column_0": "", "column_1": "", "on_duplicate": "update"}
    assert alice.post(f"{page}check", wrong).status_code == 422
    right = {"column_0": "email", "column_1": "first_name", "has_header": "on"}
    assert alice.post(f"{page}check", {**right, "on_duplicate": "update"}).status_code == 302
    job = Import.unscoped.get()
    assert b"Checking" in alice.get(page, headers={"HX-Request": "true"}).content
    importer.check(job.pk)
    assert b"Import 1 contact" in alice.get(page).content
    assert alice.post(f"{page}start").status_code == 302
    assert alice.post(f"{page}start").status_code == 409, "pressing twice is one run"
    importer.run(job.pk)
    assert b"Show contacts" in alice.get(page).content
    errors = alice.get(f"{page}bad-rows.csv")
    assert b"not a valid" in b"".join(errors.streaming_content)  # type: ignore[attr-defined]


def test_an_empty_upload_is_a_sentence(alice: Client) -> None:
    file = SimpleUploadedFile("people.csv", b"")
    answer = alice.post("/audience/imports/add", {"file": file})
    assert answer.status_code == 422
    assert b"empty" in answer.content


def test_it_refuses_another_tenant(charlie: Client, bob: Client, cast: Cast) -> None:
    job = upload(cast, b"email\na@b.test\n")
    for path in ("", "bad-rows.csv"):
        assert charlie.get(f"/audience/imports/{job.public_id}/{path}").status_code == 404
    assert charlie.post(f"/audience/imports/{job.public_id}/start").status_code == 404
    assert bob.post(f"/audience/imports/{job.public_id}/start").status_code == 403


def test_a_row_may_be_as_long_as_the_bound(cast: Cast) -> None:
    padding = b"y" * (MAX_RECORD - 30)
    job = upload(cast, b"email,note\na@b.test," + padding + b"\n")
    assert settle(cast, job).counts["totals"]["valid"] == 1


@pytest.mark.parametrize("word", ["Today", "blank", "View URL"])
def test_a_column_named_like_a_template_word_gets_another_key(cast: Cast, word: str) -> None:
    job = upload(cast, f"email,{word}\na@b.test,x\n".encode())
    settle(cast, job, targets=["email", "new:text"])
    assert AttributeDefinition.unscoped.get().key.endswith("_value")


def test_somebody_adding_the_same_contact_meanwhile_loses_nothing(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = make.contact_list(cast.acme)
    job = settle(cast, upload(cast, b"email\na@b.test\nbad\n"), contact_list=chosen)
    execute, calls = import_sql._execute, []

    def see_what_was_before(statement: str, target: Any) -> import_sql.BatchCounts:
        """The look-up's snapshot was taken before the other one committed: one row short."""
        calls.append(1)
        counts = execute(statement, target)
        return dataclasses.replace(counts, made=counts.made - 1) if len(calls) == 1 else counts

    monkeypatch.setattr(import_sql, "_execute", see_what_was_before)
    totals = run(cast, job)
    assert len(calls) == 2
    assert (totals["rows"], totals["new"], totals["subscribed"]) == (2, 1, 1)
    assert Subscription.unscoped.count() == Contact.unscoped.count() == 1
    assert len(bad_rows(job)) == 1


def test_files_go_after_a_month_and_counts_stay(cast: Cast, alice: Client) -> None:
    done, kept = upload(cast, b"email\na@b.test\nbad\n"), upload(cast, b"email\nc@d.test\n")
    run(cast, settle(cast, done))
    open_one = upload(cast, b"email\nx@y.test\n")
    long_ago = timezone.now() - dt.timedelta(days=31)
    Import.unscoped.filter(pk=done.pk).update(finished_at=long_ago)
    Import.unscoped.filter(pk=open_one.pk).update(created_at=long_ago)
    assert import_files.forget_old(timezone.now()) == 3
    assert import_files.forget_old(timezone.now()) == 0
    done.refresh_from_db()
    open_one.refresh_from_db()
    assert (done.status, done.counts["totals"]["bad"]) == ("done", 1)
    assert open_one.status == "failed"
    assert importer.upload_path(kept.path).is_file()
    for job in (done, open_one):
        assert alice.get(f"/audience/imports/{job.public_id}/").status_code == 200
        assert alice.get(f"/audience/imports/{job.public_id}/bad-rows.csv").status_code == 404
