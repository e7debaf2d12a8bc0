"""Several workers prepare one campaign: killed in the middle, at once, while it is cancelled."""

from __future__ import annotations

import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections

from sending.campaigns import preparation
from sending.campaigns.models import Campaign, CampaignPart
from sending.campaigns.preparation import prepare_campaign
from sending.campaigns.services import cancel_campaign, send_campaign
from sending.messages.models import Message, QueueEntry
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast, make_cast
from tests.races import processes
from tests.sending.campaigns.conftest import make_world

pytestmark = pytest.mark.django_db(transaction=True)

_READERS = 600
_PROGRAM = """
import sys, uuid
import django
django.setup()
from sending.campaigns import preparation
preparation.CHUNK = 20
preparation.prepare_campaign(tenant_id=uuid.UUID(sys.argv[1]), campaign_id=uuid.UUID(sys.argv[2]))
"""


@pytest.fixture
def cast() -> Cast:
    return make_cast()


@pytest.fixture
def started(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A campaign to a list of many, a second one that holds some of them, less an excluded one."""
    monkeypatch.setattr(preparation, "CHUNK", 20)
    world = make_world(cast)
    second, off = make.contact_list(cast.acme), make.contact_list(cast.acme)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO sending_contact (id, tenant_id, email, email_norm, first_name, last_name,"
            " attributes, created_at, updated_at) SELECT gen_random_uuid(), %s, address, address,"
            " '', '', '{}', now(), now()"
            " FROM (SELECT 'r' || n || '@b.test' FROM generate_series(1, %s) n) AS made (address)",
            [cast.acme.pk, _READERS],
        )
        for chosen, share in ((world.news, 1), (second, 3), (off, 5)):
            cursor.execute(
                "INSERT INTO sending_subscription (id, tenant_id, contact_id, contact_list_id,"
                " status, source, created_at, updated_at) SELECT gen_random_uuid(), tenant_id, id,"
                " %s, 'subscribed', 'test', now(), now() FROM sending_contact"
                " WHERE email ~ '^r[0-9]+@b'"
                " AND substr(email, 2, length(email) - 8)::int %% %s = 0",
                [chosen.pk, share],
            )
    campaign = world.ready(lists=[world.news, second])
    with scope(cast.acme.pk):
        campaign.excluded_lists.set([off])
    with scope(cast.acme.pk):
        send_campaign(actor=cast.alice_actor, campaign=campaign)
    return campaign


_EXPECTED = 3 + _READERS - _READERS // 5


def _copies(campaign: Campaign) -> Counter[str]:
    batch = Campaign.unscoped.get(pk=campaign.pk).batch_id
    assert batch is not None
    return Counter(Message.unscoped.filter(batch_id=batch).values_list("recipient", flat=True))


def _prepare(campaign: Campaign) -> int:
    try:
        return prepare_campaign(tenant_id=campaign.tenant_id, campaign_id=campaign.pk)
    finally:
        connections.close_all()


def test_a_killed_preparation_is_finished_exactly(started: Campaign) -> None:
    process = processes.start(_PROGRAM, str(started.tenant_id), str(started.pk))
    try:
        deadline = time.monotonic() + 60
        while not Message.unscoped.exists():
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    halted = Campaign.unscoped.get(pk=started.pk)
    assert halted.status == "preparing", "it was killed before its end"
    before = len(_copies(started))
    assert 0 < before < _EXPECTED

    made = prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk)
    copies = _copies(started)
    assert before + made >= _EXPECTED  # the server may have committed one more after the kill
    assert (len(copies), set(copies.values())) == (_EXPECTED, {1})
    assert QueueEntry.objects.count() == _EXPECTED
    done = Campaign.unscoped.get(pk=started.pk)
    assert (done.status, done.recipients_prepared) == ("sending", _EXPECTED)
    assert not CampaignPart.unscoped.exists()


def test_two_preparers_at_once_share_the_work_and_make_nothing_twice(started: Campaign) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(_prepare, [started, started]))
    copies = _copies(started)
    assert (len(copies), set(copies.values())) == (_EXPECTED, {1})
    assert sum(made) == _EXPECTED
    assert min(made) > 0, "both had a part in it"
    done = Campaign.unscoped.get(pk=started.pk)
    assert (done.status, done.recipients_prepared) == ("sending", _EXPECTED)
    assert not CampaignPart.unscoped.exists()


def test_a_part_that_another_worker_holds_is_left_to_it(started: Campaign) -> None:
    with ThreadPoolExecutor(1) as pool, scope(started.tenant_id):
        assert pool.submit(preparation._cut_part, started.tenant_id, started.pk).result()
        held = CampaignPart.objects.select_for_update().get()
        by_another = pool.submit(_prepare, started).result()
        halted = Campaign.unscoped.get(pk=started.pk)
        assert (halted.status, held.made) == ("preparing", None)
    rest = prepare_campaign(tenant_id=started.tenant_id, campaign_id=started.pk)
    assert rest > 0
    assert by_another + rest == _EXPECTED
    assert set(_copies(started).values()) == {1}
    assert Campaign.unscoped.get(pk=started.pk).recipients_prepared == _EXPECTED


def test_cancelling_while_two_prepare_stops_both(started: Campaign, cast: Cast) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(_prepare, started) for _ in range(2)]
        while not Message.unscoped.exists():
            time.sleep(0.005)
        with scope(cast.acme.pk):
            cancel_campaign(actor=cast.alice_actor, campaign=Campaign.objects.get(pk=started.pk))
        at_cancel = len(_copies(started))
        made = sum(one.result(timeout=60) for one in running)
    assert 0 < made == at_cancel < _EXPECTED, "nothing was made after the cancel"
    assert Campaign.unscoped.get(pk=started.pk).status == "cancelled"
