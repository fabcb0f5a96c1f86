"""Where the listeners' sockets come from: handed over as systemd does it, or bound here."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from connector import app, errors, listener
from connector.store import alone
from tests.places import Place, Process

FIRST = 200


def places(**more: bool) -> tuple[listener.Place, listener.Place]:
    return listener.Place("webhooks", "127.0.0.1", 0, **more), listener.Place("admin", "127.0.0.1", 0, **more)


@pytest.fixture
def held() -> Iterator[list[socket.socket]]:
    """Three listening sockets, as a supervisor holds them."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]


def hand_over(sockets: list[socket.socket], names: str = "", pid: int | None = None) -> dict[str, str]:
    """Puts copies where they are looked for; the environment that says so."""
    for number, one in enumerate(sockets):
        os.dup2(one.fileno(), FIRST + number)
    told = {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDNAMES": names}
    return {**told, "HOME": "/"}


@pytest.mark.parametrize(
    ("names", "public", "admin"),
    [
        ("", [0], [1]),
        ("webhooks:admin", [0], [1]),
        ("admin:webhooks", [1], [0]),
        ("admin:connector.socket", [1], [0]),
        ("connector.socket:connector.socket", [0], [1]),
        ("webhooks:webhooks", [0, 1], []),
        ("webhooks:webhooks:admin", [0, 1], [2]),
        ("webhooks", [0], []),
    ],
)
def test_handed_over_sockets_are_told_apart_by_name_else_by_order(
    held: list[socket.socket], names: str, public: list[int], admin: list[int]
) -> None:
    both = places()
    given = held[: len(names.split(":")) if names else 2]
    environment = hand_over(given, names)
    listener.take_handed_over(environment, *both, first=FIRST)
    for place, numbers in zip(both, (public, admin), strict=True):
        assert [one.getsockname() for one in place.sockets] == [held[number].getsockname() for number in numbers]
        assert place.handed_over is bool(numbers)
        assert not any(one.get_inheritable() for one in place.sockets)
    assert both[0].url() == f"http://127.0.0.1:{held[public[0]].getsockname()[1]}"
    assert environment == {"HOME": "/"}
    for place in both:
        place.close()


def test_what_was_meant_for_another_process_is_left_alone(held: list[socket.socket]) -> None:
    both = places()
    environment = hand_over([], pid=os.getppid()) | {"LISTEN_FDS": "2"}
    listener.take_handed_over(environment, *both, first=FIRST)
    assert not any(place.handed_over for place in both)
    assert environment == {"HOME": "/"}


def test_sockets_that_can_not_be_told_apart_are_refused(held: list[socket.socket]) -> None:
    both = places()
    with pytest.raises(errors.Misconfigured, match="FileDescriptorName=webhooks"):
        listener.take_handed_over(hand_over(held), *both, first=FIRST)
    for place in both:
        place.close()


def test_what_is_no_listening_socket_is_refused() -> None:
    with socket.socket() as not_listening, pytest.raises(errors.Misconfigured, match="no listening stream socket"):
        listener.take_handed_over(hand_over([not_listening]), *places(), first=FIRST)
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    with Path(os.devnull).open() as file, pytest.raises(errors.Misconfigured, match="is no socket"):
        listener.take_handed_over(environment, *places(), first=file.fileno())
    with pytest.raises(errors.Misconfigured, match="LISTEN_FDS is no number"):
        listener.take_handed_over({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}, *places())


def test_a_place_binds_once_and_says_what_it_can_not_bind() -> None:
    place, _ = places()
    place.open()
    place.open()
    (bound,) = place.sockets
    assert fcntl.fcntl(bound, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    port = bound.getsockname()[1]
    with pytest.raises(errors.Failed, match=f"can't listen on 127.0.0.1:{port}: Address already in use"):
        listener.Place("webhooks", "127.0.0.1", port).open()
    place.close()


def test_with_reuse_port_the_next_one_binds_too() -> None:
    first, _ = places(reuse_port=True)
    first.open()
    second = listener.Place("webhooks", "127.0.0.1", first.sockets[0].getsockname()[1], reuse_port=True)
    second.open()
    assert second.url() == first.url()
    first.close()
    second.close()


async def test_a_unix_socket_serves_too(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write()
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(path)
        held.listen()
        for name, value in hand_over([held], "webhooks").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(listener.sockets, "_FIRST_HANDED_OVER", FIRST)
        async with app.running(place.path, place.settings()) as connector:
            assert connector.public_url == f"http://unix:{path}:"
            session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path))
            async with session, session.get("http://connector/healthz") as response:
                assert response.status == 200


async def test_an_admins_socket_that_others_reach_wants_a_token(
    place: Place, monkeypatch: pytest.MonkeyPatch, held: list[socket.socket]
) -> None:
    place.write()
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        for name, value in hand_over([everywhere], "admin").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(listener.sockets, "_FIRST_HANDED_OVER", FIRST)
        with pytest.raises(errors.Misconfigured, match=r"admin\.token is required"):
            async with app.running(place.path, place.settings()):
                pass


def test_a_process_that_is_handed_both_says_their_urls(place: Place, held: list[socket.socket]) -> None:
    place.write(server='host = "localhost"\nport = 1')
    process = Process(place, sockets=[held[1], held[0]], names="admin:webhooks")
    ports = [one.getsockname()[1] for one in held]
    assert (process.url, process.admin_url) == tuple(f"http://127.0.0.1:{port}" for port in ports[:2])
    assert process.terminate() == 0


async def test_with_reuse_port_the_next_one_listens_first_and_waits_a_bounded_time_for_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PREDECESSOR_SECONDS", 0.2)
    said: list[str] = []
    # Where the log goes was settled by whichever test configured it first.
    monkeypatch.setattr(app._log, "info", lambda event, **_: said.append(event), raising=False)
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        place = Place(tmp_path, f"sqlite:///{tmp_path / 'connector.db'}").write(
            server=f"port = {port}\nreuse_port = true"
        )
        with alone.only_one(place.store_url, "work"):
            starting = asyncio.create_task(app.running(place.path, place.settings()).__aenter__())
            async with asyncio.timeout(10):
                while not accepts(port):
                    await asyncio.sleep(0.01)
            with pytest.raises(errors.StoreInUse, match="another connector runs on"):
                await starting
    assert said == ["waiting_for_predecessor"]


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
