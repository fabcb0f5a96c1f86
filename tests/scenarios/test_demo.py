"""`connector demo --once`, the command behind `make run`: everything moves, and is as it should be."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_demo_moves_everything_both_ways_and_compares_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "connector", "demo", "--once", "--json"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counted = json.loads(done.stdout)
    assert counted["users_imported"] == 200
    for what in ("people_created", "people_updated", "webhooks_received", "events_stored", "duplicates_refused"):
        assert counted[what] > 0, what
    assert counted["people_equal"] == counted["people_expected"] > 0
    assert counted["different"] == []
    assert counted["events_stored"] + counted["duplicates_refused"] == counted["webhooks_received"]
    assert counted["calls_of_another_sync"] == 0


def test_the_demo_reads_like_a_report() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "connector", "demo", "--once"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as it should be." in done.stdout
    assert done.stderr == ""
