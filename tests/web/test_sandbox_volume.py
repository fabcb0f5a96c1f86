"""Webhooks in volume: a mix keeps to its weights, repeats and shuffles, and is the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from connector.sandbox.webhooks import legacy_bodies, volume, webhook_kinds
from connector.sandbox.webhooks.volume import STRANGERS, Mix
from connector.sandbox.webhooks.webhook_bodies import Setup
from connector.sandbox.webhooks.webhook_sender import Report

TIMESTAMP = 1613063089


def mixed(**mix: Any) -> list[Report]:
    return list(volume.reports(Mix(**mix), STRANGERS, Setup(), TIMESTAMP))


def test_a_mix_is_the_same_for_the_same_seed() -> None:
    assert mixed(count=100, seed=1) == mixed(count=100, seed=1)
    assert mixed(count=100, seed=1) != mixed(count=100, seed=2)


def test_without_a_seed_no_id_comes_twice() -> None:
    first, second = mixed(count=200), mixed(count=200)
    assert len({report.event_id for report in first + second}) == 400
    deliveries = [json.loads(report.body)["data"].get("delivery_id") for report in first + second]
    named = [each for each in deliveries if each is not None]
    assert len(set(named)) == len(named)


def test_a_mix_without_kinds_has_them_all_and_everybody() -> None:
    reports = mixed(count=5000)
    of_now = {f"{webhook_kinds.object_type(kind)}.{kind[1]}" for kind in webhook_kinds.KINDS}
    assert {report.kind for report in reports} == of_now | legacy_bodies.TYPES.keys()
    sent = [json.loads(report.body) for report in reports]
    blank = sum(each["data"]["customer_id"] == "" for each in sent)
    assert 0.6 < blank / 5000 < 0.9
    flagged = {name for each in sent for name, value in each["data"].items() if value is True}
    assert flagged == {"machine", "proxied", "prefetched", "synthetic"}


def test_a_mix_keeps_to_its_weights() -> None:
    found = Counter(report.kind for report in mixed(count=4000, kinds={"email.sent": 3, "sms.sent": 1}))
    assert found.keys() == {"email.sent", "sms.sent"}
    assert 0.72 < found["email.sent"] / 4000 < 0.78


def test_duplicates_come_on_top_and_are_the_same_to_the_byte() -> None:
    plain, repeated = mixed(count=4000), mixed(count=4000, duplicates=0.25)
    distinct = {report.body for report in repeated}
    assert len(distinct) == len({report.event_id for report in repeated}) == len(plain) == 4000
    assert 0.2 < (len(repeated) - 4000) / 4000 < 0.3


def test_every_webhook_comes_twice_when_all_are_duplicates() -> None:
    assert set(Counter(report.event_id for report in mixed(count=500, duplicates=1)).values()) == {2}


def test_a_shuffled_mix_has_the_same_webhooks_in_another_order_and_none_before_its_time() -> None:
    kinds = ["email.sent"]
    times = [
        json.loads(report.body)["timestamp"]
        for report in mixed(count=3000, kinds=kinds, shuffled=True, per_second=1, duplicates=0.1)
    ]
    assert times != sorted(times)
    assert len(set(times)) == 3000
    assert all(time <= TIMESTAMP + place for place, time in enumerate(times))


def test_the_time_of_each_is_that_of_its_turn() -> None:
    times = [json.loads(report.body)["timestamp"] - TIMESTAMP for report in mixed(count=5, per_second=2)]
    assert times == [0, 0, 1, 1, 2]


def test_weights_name_kinds_that_there_are() -> None:
    for kinds in (["email.sent", "email.eaten"], {"fax.sent": 1.0}):
        with pytest.raises(ValueError, match=r"no such kind: (email\.eaten|fax\.sent)"):
            mixed(count=1, kinds=kinds)
    with pytest.raises(ValueError, match="at least one"):
        mixed(count=1, kinds=[])
