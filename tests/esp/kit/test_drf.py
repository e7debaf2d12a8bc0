"""Reading requests: one instance of a serializer for all of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from rest_framework import serializers

from esp.kit.drf import StrictSerializer, validated


class ItemIn(StrictSerializer):
    name = serializers.CharField(max_length=5)


class OrderIn(StrictSerializer):
    items = ItemIn(many=True)
    notes = serializers.DictField(required=False, default=dict)


def _refusal(data: Any) -> Any:
    entry = OrderIn(data=data)
    assert not entry.is_valid()
    return entry.errors


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {},
        {"items": None},
        {"items": {}},
        {"items": [{"name": "much too long"}, {}]},
        {"items": [], "more": 1},
        {"items": [], "notes": []},
    ],
)
def test_it_refuses_as_a_fresh_serializer_does(data: Any) -> None:
    with pytest.raises(serializers.ValidationError) as caught:
        validated(OrderIn, data)
    expected = serializers.ValidationError(_refusal(data))
    assert caught.value.detail == expected.detail
    assert caught.value.get_codes() == expected.get_codes()


def test_nothing_stays_from_one_request_to_the_next() -> None:
    first = validated(OrderIn, {"items": [{"name": "a"}]})
    first["notes"]["kept"] = True
    with pytest.raises(serializers.ValidationError):
        validated(OrderIn, {"items": [{"name": "much too long"}]})
    assert validated(OrderIn, {"items": [{"name": "b"}]}) == {"items": [{"name": "b"}], "notes": {}}


def test_requests_at_once_keep_their_own() -> None:
    def read(number: int) -> bool:
        names = [{"name": str(number)}] * 50
        return validated(OrderIn, {"items": names})["items"] == names

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(400)))
