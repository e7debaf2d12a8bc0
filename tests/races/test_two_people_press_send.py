"""Two people press Send at the same time: one batch, the other is told."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from sending.campaigns.models import Campaign
from sending.messages.models import Batch
from tests import make
from tests.cast import make_cast
from tests.sending.campaigns.conftest import make_world


@pytest.mark.django_db(transaction=True)
def test_one_wins_and_the_other_is_told() -> None:
    cast = make_cast()
    campaign = make_world(cast).ready()
    browsers = [make.client(cast.alice), make.client(cast.alice)]
    barrier = threading.Barrier(2)
    answers: list[tuple[int, str]] = []

    def press(index: int) -> None:
        try:
            barrier.wait(timeout=10)
            address = f"/campaigns/{campaign.public_id}/send/"
            answer = browsers[index].post(address, {"version": 1})
            answers.append((answer.status_code, answer.text))
        finally:
            connection.close()

    threads = [threading.Thread(target=press, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(status for status, _ in answers) == [302, 409]
    told = next(text for status, text in answers if status == 409)
    assert "This campaign is preparing already." in told
    assert Batch.unscoped.count() == 1
    assert Campaign.unscoped.get(pk=campaign.pk).status == "preparing"
