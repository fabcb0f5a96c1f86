"""The corpus of webhooks: what Customer.io sends, and beside it how that has to be read.

Two files a case, in `tests/payloads/`: `<kind>.json` is the body, `<kind>.expected.json` its reading. They are written
from the vendor's schemas, never by running the reader; people are invented. A kind is `object_type.metric`; a second
case of a kind says after `~` what is special about it (`email.opened~machine`); `legacy.<event_type>` is the older
format. The examples that Customer.io publishes are the cases `~vendor_example`.

A reading says

- `kind`, `name`: what the webhook is, what our event is called;
- `identifiers`: who it is about, [kind, value] pairs, strongest first; empty when nobody is named;
- `occurred_at`: the time of `timestamp`, or "received" when there is no right one (flag `no_timestamp`);
- `flags`: what was missing: `no_timestamp`, `no_content` (preferences changed, but not said which),
  `unreadable_content` (said, but not in JSON);
- `without`: the keys of `data` that are not among the event's properties; all others are, unchanged;
- `opted_out`: what it says about the person's consent, null when it says nothing;
- `fact`: which of the user's `customerio` times it moves, null when none (a machine's open or click moves none);
- `preferences`: the topics and channels it carries, null when it carries none;
- `envelope`: top-level keys that the vendor's format doesn't have. Missing when there are none.

A new kind, or a new peculiarity of one, is two more files here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAYLOADS = Path(__file__).parent / "payloads"
BODY, READING = ".json", ".expected.json"


def cases(folder: Path = PAYLOADS) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """(name, body, reading) of every case, by name. A file without its partner, or of another sort, is a ValueError."""
    files = {path.name for path in folder.iterdir()}
    readings = {name.removesuffix(READING) for name in files if name.endswith(READING)}
    bodies = {name.removesuffix(BODY) for name in files if name.endswith(BODY) and not name.endswith(READING)}
    if alone := readings ^ bodies:
        raise ValueError(f"{folder}: only one of two files for {', '.join(sorted(alone))}")
    if strangers := files - {name + ending for name in bodies for ending in (BODY, READING)}:
        raise ValueError(f"{folder}: neither body nor reading: {', '.join(sorted(strangers))}")
    for name in sorted(bodies):
        reading = json.loads((folder / f"{name}{READING}").read_bytes())
        yield name, (folder / f"{name}{BODY}").read_bytes(), reading
