"""The measurements run from end to end and name every ratio; what they are is not judged here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_measurement_of_webhooks_prints_every_ratio(store_kind: str, request: pytest.FixtureRequest) -> None:
    environ = dict(os.environ)
    if store_kind == "postgresql":
        server = request.getfixturevalue("durable_postgres")
        environ["CONNECTOR_TEST_POSTGRES"] = server.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.benchmarks", "webhooks", "--rounds=1", "--requests=200"]
    ran = subprocess.run(
        [*command, f"--store={store_kind}"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for ratio in (
        "connector / bare",
        "p99: connector / bare",
        "its own burst",
        "burst when nothing reads",
        "one a request",
    ):
        assert ratio in ran.stdout
    assert ran.stdout.count(" met\n") + ran.stdout.count("NOT MET\n") == 5


def test_the_measurement_of_imports_prints_every_ratio(store_kind: str, request: pytest.FixtureRequest) -> None:
    environ = {**os.environ, "BENCH_USERS": "300"}
    if store_kind == "postgresql":
        server = request.getfixturevalue("durable_postgres")
        environ["CONNECTOR_TEST_POSTGRES"] = server.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.benchmarks", "imports", "--rounds=1", f"--store={store_kind}"]
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    ratios = ["rows a second", "changes of people", "peak memory"]
    for ratio in [*ratios, "COPY / multi-row insert, of the same rows"] if store_kind == "postgresql" else ratios:
        assert ratio in ran.stdout
    assert ran.stdout.count(" met\n") + ran.stdout.count("NOT MET\n") == 2


def test_the_measurement_of_plans_prints_its_seconds(store_kind: str, request: pytest.FixtureRequest) -> None:
    environ = {**os.environ, "BENCH_PLANNED": "300"}
    if store_kind == "postgresql":
        server = request.getfixturevalue("durable_postgres")
        environ["CONNECTOR_TEST_POSTGRES"] = server.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.benchmarks", "plans", "--rounds=1", f"--store={store_kind}"]
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "300 operations, 1 calls" in ran.stdout
    assert ran.stdout.count(" met\n") + ran.stdout.count("NOT MET\n") == 1


def test_the_measurement_of_people_prints_every_figure(store_kind: str, request: pytest.FixtureRequest) -> None:
    environ = {**os.environ, "BENCH_USERS": "300"}
    if store_kind == "postgresql":
        server = request.getfixturevalue("durable_postgres")
        environ["CONNECTOR_TEST_POSTGRES"] = server.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.benchmarks", "people", "--rounds=1", f"--store={store_kind}"]
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    for figure in ("nothing changed", "found 3, and nobody else", "memory at its peak", "decided and mapped a second"):
        assert figure in ran.stdout
    assert ran.stdout.count(" met\n") + ran.stdout.count("NOT MET\n") == 3


def test_the_measurement_of_edits_prints_its_seconds() -> None:
    environ = {**os.environ, "BENCH_EDITED": "300"}
    command = [sys.executable, "-m", "tests.benchmarks", "edits", "--rounds=1", "--store=sqlite"]
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(" met\n") + ran.stdout.count("NOT MET\n") == 3
