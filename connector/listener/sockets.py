"""Where a listener's sockets come from: handed over by a supervisor (systemd), or bound here.

A socket that was handed over outlives this process. While nobody accepts on it the kernel keeps connections in its
queue, so a restart refuses nobody. One that is bound here with `reuse_port` can be bound by the next process before
this one stops.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from connector import errors

# Connections that the kernel keeps for us until we accept them (it takes no more than net.core.somaxconn).
BACKLOG = 4096

# https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
_FIRST_HANDED_OVER = 3
_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


@dataclass
class Place:
    """Where one listener listens. It owns its sockets until a listener serves on them."""

    name: str
    host: str
    port: int
    reuse_port: bool = False
    sockets: list[socket.socket] = field(default_factory=list)
    handed_over: bool = False

    def open(self) -> None:
        """Binds and listens, unless that is done. Raises Failed."""
        if self.sockets:
            return
        try:
            self._bind()
        except OSError as error:
            self.close()
            raise errors.Failed(f"can't listen on {self.host}:{self.port}: {error.strerror}") from error

    def _bind(self) -> None:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port, missing = self.port, None
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                bound = _bound(family, kind, protocol, (address[0], port, *address[2:]), self.reuse_port)
            except OSError as error:
                # "localhost" often names ::1 too, also on a machine where IPv6 is switched off.
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                missing = error
                continue
            self.sockets.append(bound)
            port = bound.getsockname()[1]
        if missing is not None and not self.sockets:
            raise missing

    def url(self) -> str:
        """As it is reached, with the port that the system chose when `port` is 0."""
        first = self.sockets[0]
        if first.family == socket.AF_UNIX:
            return f"http://unix:{first.getsockname()}:"
        address, port = first.getsockname()[:2]
        host = address if self.handed_over else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def is_private(self) -> bool:
        """Whether only this machine reaches it."""
        return all(
            one.family == socket.AF_UNIX or ipaddress.ip_address(one.getsockname()[0]).is_loopback
            for one in self.sockets
        )

    def close(self) -> None:
        for one in self.sockets:
            one.close()
        self.sockets.clear()


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...], reuse_port: bool) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def take_handed_over(
    environment: MutableMapping[str, str], public: Place, admin: Place, first: int | None = None
) -> None:
    """Gives both places the sockets that a supervisor handed over, if it did, instead of their host and port.

    Sockets are told apart by name: `webhooks` and `admin`. Of those under other names, the first is the public
    one and the second the admin's. The variables are taken out, so that no child believes that it was meant.
    """
    given = {name: environment.pop(name, "") for name in _VARIABLES}
    if given["LISTEN_PID"] != str(os.getpid()):
        return
    if not given["LISTEN_FDS"].isdecimal():
        raise errors.Misconfigured(f"LISTEN_FDS is no number: {given['LISTEN_FDS']!r}")
    count = int(given["LISTEN_FDS"])
    names = given["LISTEN_FDNAMES"].split(":") if given["LISTEN_FDNAMES"] else []
    first = _FIRST_HANDED_OVER if first is None else first
    taken = [_taken(first + number) for number in range(count)]
    others: list[socket.socket] = []
    for name, one in zip([*names, *[""] * count], taken, strict=False):
        {"webhooks": public.sockets, "admin": admin.sockets}.get(name, others).append(one)
    for place in (public, admin):
        if not place.sockets and others:
            place.sockets.append(others.pop(0))
        place.handed_over = bool(place.sockets)
    if others:
        for one in others:
            one.close()
        raise errors.Misconfigured(
            f"{count} sockets were handed over, and it isn't clear which is which: "
            "give each FileDescriptorName=webhooks or FileDescriptorName=admin"
        )


def _taken(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        raise errors.Misconfigured(f"LISTEN_FDS: descriptor {descriptor} is no socket: {error.strerror}") from error
    listens = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if taken.type != socket.SOCK_STREAM or not listens:
        taken.close()
        raise errors.Misconfigured(f"LISTEN_FDS: descriptor {descriptor} is no listening stream socket (Accept=no)")
    taken.setblocking(False)
    taken.listen(BACKLOG)
    return taken
