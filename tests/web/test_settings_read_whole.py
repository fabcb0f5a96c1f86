"""The settings file is read whole, and whoever writes it notices nothing of the asking."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from connector import settings_file
from connector.settings_file import whole

_OPENS = 20_000
_OPENS_FOR_WRITING = f"""
import os, sys, time
worst = 0.0
for _ in range({_OPENS}):
    began = time.perf_counter()
    descriptor = os.open(sys.argv[1], os.O_WRONLY)
    worst = max(worst, time.perf_counter() - began)
    os.close(descriptor)
print(worst)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text("[server]\nport = 1\n")
    return path


def test_it_is_whole_when_nobody_has_it_open_for_writing(path: Path) -> None:
    assert whole.look(path).state == "whole"
    with path.open("a"):
        assert whole.look(path).state == "written"
        with path.open():
            assert whole.look(path).state == "written"
    assert whole.look(path).state == "whole"
    with path.open():
        assert whole.look(path).state == "whole"


def test_each_write_and_each_other_file_has_another_stamp(path: Path) -> None:
    first = whole.look(path)
    assert whole.look(path) == first
    path.chmod(0o600)
    second = whole.look(path)
    other = path.with_suffix(".new")
    other.write_bytes(first.data)
    other.replace(path)
    third = whole.look(path)
    assert len({first.stamp, second.stamp, third.stamp}) == 3
    assert first.data == third.data


def test_of_a_file_that_is_not_of_this_machine_nobody_can_tell() -> None:
    assert whole.look(Path("/proc/version")).state == "unknown"


def test_a_pipe_is_read_once_to_its_end() -> None:
    """As `connector plan <(git show HEAD:settings.toml)` gives it."""
    script = (
        "from pathlib import Path; from connector.settings_file import whole; "
        "print(len(whole.read(Path('/dev/stdin'))))"
    )
    told = subprocess.run([sys.executable, "-c", script], input=b"x" * 100_000, stdout=subprocess.PIPE, check=True)
    assert int(told.stdout) == 100_000


def test_the_settings_are_loaded_once_they_are_written(path: Path) -> None:
    found: list[int] = []
    with path.open("w") as file:
        file.write("[server]\nport = 2")
        file.flush()
        loading = threading.Thread(target=lambda: found.append(settings_file.load(path, {}).server.port))
        loading.start()
        loading.join(0.2)
        assert loading.is_alive()
        file.write("0\n")
    loading.join(20)
    assert found == [20]


def test_settings_that_stay_open_are_a_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "PATIENCE_SECONDS", 0.1)
    with path.open("a"), pytest.raises(whole.StillOpen, match="still_open"):
        settings_file.load(path, {})


def test_who_opens_it_for_writing_meanwhile_is_neither_held_up_nor_a_danger(path: Path) -> None:
    """While it is asked for, the kernel tells of each writer by a signal: one that ends a process, by default."""
    signals: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, _frame: signals.append(number))
    try:
        writer = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _OPENS_FOR_WRITING, str(path)], stdout=subprocess.PIPE
        )
        states = set()
        while writer.poll() is None:
            states.add(whole.look(path).state)
        longest = float(writer.communicate()[0])
    finally:
        signal.signal(signal.SIGIO, before)
    assert signals == []
    assert states == {"whole", "written"}
    assert longest < 5  # the kernel would take the lease away after 45 s
