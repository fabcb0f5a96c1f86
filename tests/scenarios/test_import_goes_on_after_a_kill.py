"""An import that is killed in the middle goes on where its last chunk ended, and nothing is missing or there twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from connector.store import schema
from connector.store.database import Database
from tests.places import Place
from tests.store import given

ROWS = 12_000


def row(number: int) -> dict[str, Any]:
    email = f"user-{number}@example.com" if number % 1000 else "nobody"
    return {"external_id": f"user-{number}", "email": email, "name": f"User {number}", "n": number}


def killed_on_the_way(place: Place, db: Database, *arguments: str) -> int:
    """Runs the command and kills it once something is committed; how many rows that were then."""
    command = [sys.executable, "-m", "connector", "--settings", str(place.path), *arguments]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ) as process:
        until = time.monotonic() + 60
        while not given.rows(db, schema.imports) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
    (stored,) = given.rows(db, schema.imports, "rows")
    return int(stored)


def test_a_killed_import_goes_on_and_loses_and_repeats_nothing(place: Place, db: Database) -> None:
    place.write()
    file = place.folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row(number)) + "\n" for number in range(ROWS)))
    stored = killed_on_the_way(place, db, "import", "users", str(file))
    assert 0 < stored < ROWS
    shown = place.run("import", "users", str(file), exit_status=1)
    assert f"going on from row {stored + 1:,}" in shown
    assert "12 rejected (12 bad_email)" in shown
    rejects = Path(f"{file}.rejects.jsonl").read_text().splitlines()
    assert [json.loads(each)["line"] for each in rejects] == list(range(1, ROWS, 1000))
    assert len(given.rows(db, schema.users, "id")) == ROWS - 12
    assert given.rows(db, schema.imports) == []
