"""The settings of the connectors, their secrets, and the options of the sandbox."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from connector.commands.prove import happenings
from connector.commands.prove.options import EVERY_SECONDS, FAULTS, GRACE_SECONDS, LATENCY, Wanted
from connector.commands.prove.stories import LARGE, LARGE_SEATS, MEMBERS, PICKED
from connector.inbound.webhooks import PATH

_SITE_ID = "prove-site"
_EVENTS_WAIT = "1d"  # longer than anybody is away, so that none is skipped

_SETTINGS = """\
[server]
port = {port}
reuse_port = {reuse_port}

[admin]
port = 0

[store]
url = "env:PROVE_STORE"

[customerio]
site_id = "{site_id}"
api_key = "env:PROVE_API_KEY"
region = "us"
track_url = "{track_url}"

[webhooks]
signing_keys = ["env:PROVE_SIGNING_KEY"]

[intake]
write_keys = ["env:PROVE_WRITE_KEY"]

[people]
segments = ["{members}"]
attributes = {picked}

[people.delete]
enabled = true
grace = "{grace}s"

[events]
names = {names}
wait = "{wait}"

[guard]
max_creates = "unlimited"
max_delete_share = 1

[sync]
every = "{every}s"
latency = "200ms"

[log]
format = "json"

[segments]
"{members}" = {{ attribute = "stage", is = "member" }}
"{large}" = {{ attribute = "seats", gte = {large_seats} }}
"""


def secrets(wanted: Wanted, folder: Path) -> dict[str, str]:
    """By the name in the environment; also where the store is."""
    drawn = random.SystemRandom()
    keys = {
        name: f"{drawn.getrandbits(128):032x}" for name in ("PROVE_API_KEY", "PROVE_SIGNING_KEY", "PROVE_WRITE_KEY")
    }
    return {**keys, "PROVE_STORE": wanted.store or f"sqlite:///{folder / 'connector.db'}"}


def sandbox_options(wanted: Wanted, keys: Mapping[str, str], url: str) -> list[str]:
    """For its command; `url` is where the webhooks go."""
    options: dict[str, object] = {
        "--site-id": _SITE_ID,
        "--api-key": keys["PROVE_API_KEY"],
        "--signing-key": keys["PROVE_SIGNING_KEY"],
        "--webhook-url": url + PATH,
        "--seed": wanted.seed,
        "--latency": LATENCY,
    }
    shares = [word for fault, share in FAULTS.items() for word in ("--fail-share", f"{fault}={share}")]
    return [*(str(word) for pair in options.items() for word in pair), *shares]


def write_settings(folder: Path, keys: Mapping[str, str], wanted: Wanted, port: int, track_url: str) -> Path:
    """The file, with its `.env` beside it."""
    env = folder / ".env"
    env.touch(mode=0o600)
    env.write_text("".join(f"{name}={value}\n" for name, value in keys.items()))
    path = folder / "settings.toml"
    path.write_text(
        _SETTINGS.format(
            port=port,
            # Several servers share the port; on SQLite there is one.
            reuse_port="true" if wanted.servers > 1 else "false",
            site_id=_SITE_ID,
            track_url=track_url,
            members=MEMBERS,
            large=LARGE,
            large_seats=LARGE_SEATS,
            picked=list(PICKED),
            names=list(happenings.NAMES),
            wait=_EVENTS_WAIT,
            grace=GRACE_SECONDS,
            every=EVERY_SECONDS,
        )
    )
    return path
