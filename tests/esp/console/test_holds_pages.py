"""Holds: operators place and lift them, tenants read what holds their mail and why."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client
from django.utils import timezone

from deliverability.holds.models import SendingHold
from sending.lanes.models import LaneState, ShapingAction
from tenants.audit.models import AuditEntry
from tenants.directory.models import Tenant
from tests import make
from tests.cast import Cast

PAGE = "/operator/holds/"
MINE = "/deliverability/holds/"


@pytest.fixture
def hold(cast: Cast) -> SendingHold:
    batch = make.batch(cast.acme, label="Autumn news")
    return SendingHold.unscoped.create(
        tenant=cast.acme, batch_ref=batch.pk, reason="Google takes no more of it",
        rule="judged-spam", until=timezone.now() + dt.timedelta(hours=2),
    )  # fmt: skip


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_an_operator_sees_the_holds_of_all_tenants(
    operator: Client, cast: Cast, hold: SendingHold
) -> None:
    SendingHold.unscoped.create(tenant=cast.globex, reason="Under review", stream="broadcast")
    SendingHold.unscoped.create(
        tenant=cast.globex, reason="Long over", until=timezone.now() - dt.timedelta(hours=1)
    )
    text = text_of(operator, PAGE)
    assert "Autumn news" in text
    assert "Google takes no more of it" in text
    assert "All broadcast mail" in text
    assert "Long over" not in text


def test_an_operator_holds_a_tenants_mail_and_lifts_it(operator: Client, cast: Cast) -> None:
    values = {
        "tenant": cast.acme.public_id, "stream": "broadcast", "hours": "4", "reason": "Complaints",
    }  # fmt: skip
    assert operator.post(PAGE, values).status_code == 302
    hold = SendingHold.unscoped.get()
    assert (hold.tenant_id, hold.stream, hold.reason) == (cast.acme.pk, "broadcast", "Complaints")
    assert hold.until is not None
    lift = f"{PAGE}{cast.acme.public_id}/{hold.public_id}/lift"
    assert operator.post(lift).status_code == 302
    assert operator.post(lift).status_code == 409
    assert "Complaints" not in text_of(operator, PAGE)
    verbs = (
        AuditEntry.unscoped.filter(tenant=cast.acme).order_by("id").values_list("action", flat=True)
    )
    assert [verb for verb in verbs if verb.startswith("holds")] == ["holds.place", "holds.lift"]


def test_a_double_click_places_one_hold(operator: Client, cast: Cast) -> None:
    values = {"tenant": cast.acme.public_id, "hours": "4", "reason": "Complaints"}
    for _ in range(2):
        assert operator.post(PAGE, values).status_code == 302
    assert SendingHold.unscoped.count() == 1
    assert AuditEntry.unscoped.filter(action="holds.place").count() == 1


def test_a_hold_takes_a_tenants_name_if_one_alone_has_it(operator: Client, cast: Cast) -> None:
    values = {"tenant": "ACME", "reason": "Complaints"}
    assert operator.post(PAGE, values).status_code == 302
    assert SendingHold.unscoped.get().tenant_id == cast.acme.pk
    Tenant.objects.filter(pk=cast.globex.pk).update(name="Acme")
    answer = operator.post(PAGE, values)
    assert answer.status_code == 422
    assert "Several tenants are called so" in answer.content.decode()
    assert SendingHold.unscoped.count() == 1


def test_of_tenants_with_one_name_the_id_to_type_is_said(operator: Client, cast: Cast) -> None:
    Tenant.objects.filter(pk=cast.globex.pk).update(name="Acme")  # the short name of another one
    text = operator.post(PAGE, {"tenant": "acme", "reason": "Complaints"}).content.decode()
    assert "Type the id of the one you mean" in text
    for tenant, slug in ((cast.acme, "acme"), (cast.globex, "globex")):
        assert f"{tenant.public_id} for Acme, short name {slug}" in text
    values = {"tenant": cast.globex.public_id, "reason": "Complaints"}
    assert operator.post(PAGE, values).status_code == 302
    assert SendingHold.unscoped.get().tenant_id == cast.globex.pk


def test_of_many_tenants_with_one_name_the_first_are_listed(operator: Client, cast: Cast) -> None:
    tenants = [make.tenant("Twins") for _ in range(6)]
    text = operator.post(PAGE, {"tenant": "twins", "reason": "x"}).content.decode()
    assert [tenant.public_id in text for tenant in tenants] == [True] * 5 + [False]
    assert "the others are on the page of tenants" in text


def test_one_campaign_is_held(operator: Client, cast: Cast) -> None:
    batch = make.batch(cast.acme)
    campaign = make.campaign(cast.acme, batch=batch)
    values = {"tenant": cast.acme.public_id, "campaign": campaign.public_id, "reason": "Spam"}
    assert operator.post(PAGE, values).status_code == 302
    assert SendingHold.unscoped.get().batch_ref == batch.pk


def test_a_campaigns_hold_is_told_by_its_name_with_the_ids_for_commands(
    operator: Client, alice: Client, cast: Cast
) -> None:
    batch = make.batch(cast.acme, label="As it was called")
    campaign = make.campaign(cast.acme, "Winter sale", batch=batch)
    values = {"tenant": cast.acme.public_id, "campaign": campaign.public_id, "reason": "Spam"}
    assert "“Winter sale” of Acme is held" in (
        operator.post(PAGE, values, follow=True).content.decode()
    )
    text = text_of(operator, PAGE)
    for part in ("Winter sale", campaign.public_id, batch.public_id):
        assert part in text, part
    assert f"/campaigns/{campaign.public_id}/" not in text  # an operator is no member
    assert f'href="/campaigns/{campaign.public_id}/"' in text_of(alice, MINE)
    hold = SendingHold.unscoped.get()
    operator.post(f"{PAGE}{cast.acme.public_id}/{hold.public_id}/lift")
    placed, lifted = AuditEntry.unscoped.filter(action__startswith="holds.").order_by("id")
    assert placed.target == "Acme: Winter sale"
    assert placed.detail == {
        "reason": "Spam", "campaign": "Winter sale", "batch": batch.public_id,
    }  # fmt: skip
    assert lifted.target == f"{hold.public_id} on Winter sale"
    assert lifted.detail == placed.detail
    log = text_of(alice, "/settings/audit/")
    assert "campaign: Winter sale" in log
    assert f"batch: {batch.public_id}" in log
    assert str(batch.pk) not in log


def test_a_rules_hold_on_mail_of_the_api_is_told_by_its_batch(
    operator: Client, alice: Client, hold: SendingHold
) -> None:
    assert "bat_" in text_of(operator, PAGE)
    assert "/campaigns/cmp_" not in text_of(alice, MINE)
    SendingHold.unscoped.update(batch_ref=hold.pk)  # a batch that is gone
    assert "One campaign" in text_of(operator, PAGE)


def test_a_lanes_audit_lines_name_the_campaign_that_was_held(operator: Client, cast: Cast) -> None:
    lane = LaneState.objects.create(source_id="", site="google")
    batch = make.batch(cast.acme, label="Autumn news")
    for action in ("hold_batch", "slow_down", "hold_tenant"):
        ShapingAction.objects.create(
            at=timezone.now(), action=action, rule="judged-spam", site="google",
            tenant_ref=cast.acme.pk, batch_ref=batch.pk,
        )  # fmt: skip
    text = text_of(operator, f"/operator/lanes/{lane.public_id}/")
    assert text.count("Autumn news") == 1
    assert text.count(f'href="/operator/tenants/{cast.acme.public_id}/">Acme') == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tenant": "ten_nobody"}, "There is no tenant with this id."),
        ({"tenant": "Nobody & Sons"}, "There is no tenant with this name or id."),
        ({"campaign": "cmp_none"}, "This tenant has no campaign with this id."),
        ({"reason": ""}, "required"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_lost(
    operator: Client, cast: Cast, changes: dict[str, str], sentence: str
) -> None:
    values = {"tenant": cast.acme.public_id, "reason": "kept words"} | changes
    answer = operator.post(PAGE, values)
    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert values["reason"] in answer.content.decode()
    assert not SendingHold.unscoped.exists()


def test_another_tenants_campaign_cannot_be_named(operator: Client, cast: Cast) -> None:
    foreign = make.campaign(cast.globex, batch=make.batch(cast.globex))
    values = {"tenant": cast.acme.public_id, "campaign": foreign.public_id, "reason": "Spam"}
    assert operator.post(PAGE, values).status_code == 422


def test_a_hold_is_lifted_only_under_its_own_tenant(
    operator: Client, cast: Cast, hold: SendingHold
) -> None:
    wrong = f"{PAGE}{cast.globex.public_id}/{hold.public_id}/lift"
    assert operator.post(wrong).status_code == 404


def test_members_of_tenants_find_no_operators_page(
    alice: Client, cast: Cast, hold: SendingHold
) -> None:
    assert alice.get(PAGE).status_code == 404
    lift = f"{PAGE}{cast.acme.public_id}/{hold.public_id}/lift"
    assert alice.post(lift).status_code == 404


def test_the_tenant_reads_what_holds_its_mail_and_nobody_else_does(
    alice: Client, charlie: Client, cast: Cast, hold: SendingHold
) -> None:
    ShapingAction.objects.create(
        at=timezone.now(), action="slow_down", rule="no-longer-there", title="Too fast",
        source_address="192.0.2.1", site="google", tenant_ref=cast.acme.pk,
        reply="421 4.7.28 [address] too fast", until=timezone.now() + dt.timedelta(minutes=30),
        actor="",
    )  # fmt: skip
    ShapingAction.objects.create(
        at=timezone.now(), action="limit", title="tenant: messages a second: 5",
        tenant_ref=cast.acme.pk, actor="olga@mailwright.test",
    )  # fmt: skip
    text = text_of(alice, MINE)
    for part in (
        "Autumn news", "Google takes no more of it", "Slowed down", "Too fast",
        "Gmail and Google Workspace, from 192.0.2.1", "421 4.7.28 [address]", "by an operator",
    ):  # fmt: skip
        assert part in text, part
    assert "olga@" not in text
    others = text_of(charlie, MINE)
    assert "Nothing of yours is held" in others
    assert "Too fast" not in others
