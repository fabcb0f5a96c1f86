"""An installed connector brings its migrations along."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_store_can_be_made_from_the_wheel_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (tmp_path / "settings.toml").write_text('[store]\nurl = "sqlite:///made.db"\n')
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "import connector, connector.cli; print(connector.__file__); connector.cli.main()",
            "migrate",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert str(site) in made.stdout
    assert (tmp_path / "made.db").exists()
    assert (site / "connector" / "commands" / "samples" / "users.csv").exists()
    assert (site / "connector" / "settings.example.toml").exists(), "the JSON Schema says what it says"
