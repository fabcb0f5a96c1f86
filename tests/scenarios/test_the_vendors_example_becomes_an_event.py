"""The checkpoint, as an admin would do it: a settings file, one POST, one import, one sync."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.places import Place, Process, Sandbox, example, post


async def test_the_vendors_own_example_becomes_email_opened_of_user_42(place: Place) -> None:
    place.write()
    process = await asyncio.to_thread(Process, place)
    async with aiohttp.ClientSession() as session:
        assert (await post(session, process.url, example()))[0] == 200
    assert process.terminate() == 0
    (event,) = place.export("events")
    assert event["name"] == "Email Opened"
    assert event["external_id"] == "42"
    assert event["occurred_at"] == "2021-02-11T17:04:49Z"
    assert event["source_id"] == "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
    assert event["properties"]["delivery_id"] == "RPILAgUBcRhIBqSfeiIwdIYJKxTY"
    (user,) = place.export("users")
    assert (user["external_id"], user["email"], user["cio_id"]) == ("42", "test@example.com", "d9c106000001")


async def test_a_csv_of_users_reaches_the_track_api_by_import_and_sync(place: Place, sandbox: Sandbox) -> None:
    place.track_url = sandbox.url
    place.write(
        people='segments = ["Pro"]\nattributes = ["plan", "seats", "account.name"]',
        segments='"Pro" = { attribute = "seats", gte = 5 }',
    )
    users = place.folder / "users.csv"
    users.write_text(
        "external_id,email,plan,seats,account.name\n"
        '42,test@example.com,pro,5,"Acme, Inc."\n'
        "43,b@example.com,free,1,Beta\n"
        ",,free,1,Nobody\n"
    )

    def import_and_sync() -> tuple[str, str, str]:
        shown = place.run("import", "users", str(users), exit_status=1)
        return shown, place.run("sync"), place.run("sync")

    imported, first, second = await asyncio.to_thread(import_and_sync)
    assert "2 created" in imported
    assert "1 no_identifier" in imported
    assert '"line":4' in (place.folder / "users.csv.rejects.jsonl").read_text()
    assert "1 created, 0 updated, in 1 call" in first
    assert "0 created, 0 updated, in 0 calls" in second
    assert sandbox.people() == {
        "42": {
            "email": "test@example.com",
            "hull_segments": ["Pro"],
            "plan": "pro",
            "seats": 5,
            "account_name": "Acme, Inc.",
        }
    }
    (person,) = place.export("people")
    assert (person["customer_id"], person["deleted_at"]) == ("42", None)
