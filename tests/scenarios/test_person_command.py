"""`connector person` tells one user's story, also beside a connector that runs."""

from __future__ import annotations

import json

from connector.store import inbox
from connector.store.database import Database
from tests.places import Place, Process, example
from tests.store import given

IMPORTED = '{"external_id": "42", "email": "Ann@Example.com", "plan": "pro"}\n'


def test_a_user_is_told_in_words_and_as_data_with_what_has_arrived_meanwhile(place: Place, db: Database) -> None:
    place.write(people='segments = ["pro"]', segments='pro = { attribute = "plan", is = "pro" }')
    (place.folder / "users.jsonl").write_text(IMPORTED)
    place.run("import", "users", str(place.folder / "users.jsonl"))
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(example(customer_id="42")))

    words = place.run("person", "ann@example.COM")
    for expected in (
        "found by email",
        'segment     "pro" (sent)',
        "decision    skip: awaits_pass",
        "  remedy    the next full pass lets them go",
        '"Email Opened" by customerio',
    ):
        assert expected in words

    told = json.loads(place.run("person", "42", "--json"))
    assert (told["user"]["external_id"], told["decision"]["reason"], told["sent"]) == ("42", "awaits_pass", None)
    assert [each["name"] for each in told["events"]] == ["Email Opened"]
    assert told["user"]["email"] == "Ann@Example.com"


def test_an_unknown_id_fails_with_what_was_tried(place: Place) -> None:
    place.write()
    shown = place.run("person", "nobody@example.com", exit_status=1)
    assert "tried as user_id, external_id, email, anonymous_id, customer_id, cio_id" in shown


def test_it_works_beside_a_connector_that_runs(place: Place) -> None:
    place.write()
    (place.folder / "users.jsonl").write_text(IMPORTED)
    with Process(place) as process:
        place.run("import", "users", str(place.folder / "users.jsonl"))
        assert "decision    skip: not_in_segment" in place.run("person", "42")
        assert process.terminate() == 0
