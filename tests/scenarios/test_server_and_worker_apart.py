"""`connector serve` and `connector work`: one direction each, in processes of their own, from one settings file."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.places import Give, Place, Process, Sandbox, example, post


async def started(place: Place, *command: str, ready: str = "listening") -> Process:
    return await asyncio.to_thread(Process, place, command=command, ready=ready)


async def status_of(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(url) as response:
        return response.status


async def test_the_server_receives_and_reads_and_the_worker_sends(place: Place, sandbox: Sandbox, give: Give) -> None:
    place.track_url = sandbox.url
    place.write(people='segments = ["All"]', segments='"All" = { everyone = true }')
    give(place.settings(), {"external_id": "42", "email": "test@example.com"})
    async with aiohttp.ClientSession() as session:
        with await started(place, "serve") as server, await started(place, "work", ready="working") as worker:
            assert worker.wait_for("working")["admin"] is None
            assert (await post(session, server.url, example()))[0] == 200
            async with asyncio.timeout(30):
                while "42" not in sandbox.people() or len(await asyncio.to_thread(place.export, "events")) < 1:
                    await asyncio.sleep(0.05)
            assert await status_of(session, server.admin_url + "/readyz") == 200
            assert await asyncio.to_thread(worker.terminate) == 0
            assert (await post(session, server.url, example("another")))[0] == 200
            give(place.settings(), {"external_id": "43", "email": "other@example.com"})
            await asyncio.sleep(1)
            assert sandbox.people().keys() == {"42"}, "the server sends nothing"
            assert await asyncio.to_thread(server.terminate) == 0


async def test_a_worker_can_be_asked_how_it_is_on_a_port_of_its_own(place: Place, sandbox: Sandbox, give: Give) -> None:
    place.track_url = sandbox.url
    place.write(people='segments = ["All"]', segments='"All" = { everyone = true }')
    give(place.settings(), {"external_id": "42", "email": "test@example.com"})
    async with aiohttp.ClientSession() as session:
        with await started(place, "work", "--admin-port", "0", ready="working") as worker:
            url = worker.wait_for("working")["admin"]
            assert await status_of(session, f"{url}/readyz") == 200
            assert await status_of(session, f"{url}/status") == 200
            assert await status_of(session, f"{url}/webhooks/customerio") == 404
            metrics = ""
            async with asyncio.timeout(30):
                while 'connector_decisions_total{reason="entered",verb="create"} 1.0' not in metrics:
                    async with session.get(f"{url}/metrics") as response:
                        metrics = await response.text()
            assert "connector_calls_total 1.0" in metrics
            assert await asyncio.to_thread(worker.terminate) == 0


async def test_on_sqlite_there_is_one_of_each_and_on_postgresql_any_number(place: Place) -> None:
    place.write()
    with await started(place, "serve") as server, await started(place, "work", ready="working") as worker:
        if place.store_url.startswith("sqlite"):
            for command in ("serve", "run"):
                said = await asyncio.to_thread(place.run, command, exit_status=2)
                assert "another connector runs on" in said
                assert "and receives; stop it first" in said
            said = await asyncio.to_thread(place.run, "work", exit_status=2)
            assert "and sends; stop it first" in said
        else:
            with await started(place, "run") as whole, await started(place, "work", ready="working") as second:
                assert (whole.terminate(), second.terminate()) == (0, 0)
        assert (await asyncio.to_thread(server.terminate), await asyncio.to_thread(worker.terminate)) == (0, 0)
