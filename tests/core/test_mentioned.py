"""Which names of attributes and events the settings mention."""

from __future__ import annotations

from connector.core import mentioned
from connector.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "people": {
            "customer_id": ["code", "external_id"],
            "attributes": ["plan", {"name": "account.name", "as": "company"}, "email_domain"],
            "opt_out": "gone",
        },
        "segments": {
            "Pro": {"attribute": "plan", "is": "pro"},
            "Known": {"attribute": "email", "exists": True},
            "Awake": {"attribute": "customerio.opened_at", "within": "30d"},
            "Mixed": {
                "none": [
                    {"event": "Order Completed", "where": [{"property": "total", "gt": 1}]},
                    {"all": [{"attribute": "seats", "gt": 1}, {"segment": "Pro"}, {"everyone": True}]},
                ]
            },
        },
    }
)


def test_attributes_are_named_with_the_first_place_that_mentions_them() -> None:
    assert mentioned.attributes(SETTINGS) == {
        "code": "people.customer_id",
        "plan": "people.attributes",
        "account.name": "people.attributes",
        "email_domain": "people.attributes",
        "gone": "people.opt_out",
        "seats": 'segment "Mixed"',
    }


def test_events_are_those_of_conditions_however_deep() -> None:
    assert mentioned.events(SETTINGS) == {"Order Completed": 'segment "Mixed"'}


def test_default_settings_mention_nothing() -> None:
    assert (mentioned.attributes(Settings()), mentioned.events(Settings())) == ({}, {})
