"""A real `connector sandbox`, for tests that need it as a process of its own."""

from __future__ import annotations

import base64
import json
import os
import re
import urllib.error
import urllib.request
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any

from tests import warm

TOKEN = base64.b64encode(b"my-site:my-key").decode()
CREDENTIALS = ["--site-id", "my-site", "--api-key", "my-key"]


class Sandbox:
    """A real `connector sandbox` on a free port."""

    def __init__(self, *options: str) -> None:
        ours, theirs = os.pipe()
        self._output = os.fdopen(ours)
        with os.fdopen(theirs, "wb") as told, Path(os.devnull).open("wb") as nothing:
            arguments = ["sandbox", "--port", "0", *CREDENTIALS, *options]
            self._process = warm.Command(arguments, environment(), nothing.fileno(), told.fileno())
        self.said: list[str] = []
        for line in self._output:
            self.said.append(line)
            if "track_url" in line:
                break
        found = re.search(r'track_url = "(.+)"', self.said[-1]) if self.said else None
        assert found is not None, self.said
        self.url = found[1]

    def call(self, method: str, path: str, sent: object = None) -> tuple[int, Any]:
        """Status and JSON of the answer; a 0 when the connection was cut. What `curl -u my-site:my-key` would do."""
        body = None if sent is None else json.dumps(sent).encode()
        request = urllib.request.Request(self.url + path, body, {"Authorization": f"Basic {TOKEN}"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (RemoteDisconnected, ConnectionResetError):
            return 0, None

    def get(self, path: str) -> Any:
        return self.call("GET", path)[1]

    def kill(self) -> None:
        """kill -9"""
        self._process.kill()
        self._process.wait(20)
        self._output.close()


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200"}
