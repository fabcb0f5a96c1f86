"""`kill -9` of a running connector loses nothing that it had answered with 200, and doubles nothing."""

from __future__ import annotations

from tests.places import Place
from tests.proofs import inbound


def test_every_webhook_that_got_200_is_one_event_after_kill_minus_9(place: Place) -> None:
    outcome = inbound.prove(place, webhooks=3_000, kills=3, seed=7)
    assert outcome.holds, outcome
    assert outcome.webhooks == 3_000
    assert outcome.answers > 3_300, "a fifth is sent twice"
