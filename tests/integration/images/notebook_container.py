"""A notebook server of the base image, run by podman alone, with a stand-in for the hub in it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Self

from taccuino.engines.image_check import _ENVIRONMENT, _HUB_PORT, _program, _remove
from taccuino.engines.images import ImageError, ImageStore

TOKEN = "the-servers-token-7d1c"
FAULT = "Your cloud storage could not be mounted: the storage does not answer."
UID = 3_456_000_000

_FETCH = """
import sys, urllib.error, urllib.request
address, token, method = sys.argv[1:]
request = urllib.request.Request(address, method=method)
if token:
    request.add_header("Authorization", "token " + token)
try:
    with urllib.request.urlopen(request, timeout=20) as reply:
        print(reply.status, reply.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, "null")
"""

# The stand-in, but for the notices: those of the file, which a test may write.
_HUB = """
import http.server, json, pathlib, sys
program = {"__name__": "stand_in_hub"}
exec(sys.argv[1], program)
class Hub(program["_Hub"]):
    def do_GET(self):
        file = pathlib.Path("/tmp/notices.json")
        if "/servers/notices" in self.path and file.exists():
            self._answer(200, {"notices": json.loads(file.read_text())})
        else:
            super().do_GET()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Hub).serve_forever()
"""


class NotebookContainer:
    """Started on entry, with no network but its own loopback; removed on exit."""

    def __init__(
        self,
        store: ImageStore,
        workarea: Path,
        name: str,
        environment: dict[str, str] | None = None,
        memory: int = 512,
    ) -> None:
        self.store, self.workarea, self.name = store, workarea, name
        self.memory = memory  # MiB
        self.environment = environment or {}
        for parent in (workarea, *list(workarea.parents)[:2]):
            parent.chmod(0o711)  # the container's user has to come by

    def __enter__(self) -> Self:
        os.chown(self.workarea, UID + 1000, UID + 1000)
        environment = _ENVIRONMENT | {
            "JUPYTERHUB_API_TOKEN": TOKEN,
            "TACCUINO_STORAGE_FAULTS": json.dumps([FAULT]),
            "MEM_LIMIT": str(self.memory * 1024**2),
        }
        environment |= self.environment
        file = self.workarea.with_suffix(".env")
        file.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        mapping = f"0:{UID}:65536"
        began = time.monotonic()
        self.store.podman(
            *("run", "--detach", "--name", self.name, "--network=none", f"--env-file={file}"),
            *(f"--uidmap={mapping}", f"--gidmap={mapping}", "--user=1000:1000"),
            *("--cap-drop=all", "--security-opt=no-new-privileges"),
            f"--memory={self.memory}m",
            *("-v", f"{self.workarea}:/workarea", "localhost/taccuino/base:latest"),
            what="starting a notebook server",
        )
        self.run_seconds = time.monotonic() - began
        hub = ("python3", "-c", _HUB, _program("stand_in_hub"), str(_HUB_PORT))
        self.store.podman("exec", "--detach", self.name, *hub, what="starting the stand-in")
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self.store, self.name)

    def fetch(self, address: str, token: str = "", method: str = "GET") -> tuple[int, Any]:
        """The status and the JSON of a request made inside."""
        command = ("exec", self.name, "python3", "-c", _FETCH, address, token, method)
        status, _, text = self.store.podman(*command, what="a request").partition(" ")
        return int(status), json.loads(text) if text.strip() else None

    def get(self, path: str, token: str = "t", method: str = "GET") -> tuple[int, Any]:
        """A request to the notebook server."""
        return self.fetch(f"http://127.0.0.1:8888/user/check{path}", token, method)

    def phases(self) -> list[str]:
        """What the hub was told."""
        answer = self.fetch(f"http://127.0.0.1:{_HUB_PORT}/seen")[1]
        return [event["phase"] for event in answer["events"]]

    def last_activity(self) -> str:
        """When the server was last in use, as it says itself; asking is no use."""
        end = time.monotonic() + 30
        while (answer := self.get("/api/status"))[0] != 200:  # on a busy machine
            assert time.monotonic() < end, f"/api/status answers {answer[0]}"
            time.sleep(0.2)
        return str(answer[1]["last_activity"])

    def tell_notices(self, *notices: dict[str, str]) -> None:
        """What the hub answers from now on when the server asks for notices."""
        self.shell(f"cat > /tmp/notices.json <<'END'\n{json.dumps(notices)}\nEND\n")

    @property
    def network_namespace(self) -> str:
        """A path that names the container's network, for ``nsenter``."""
        pid = self.store.podman(
            "inspect", "--format", "{{.State.Pid}}", self.name, what="its pid"
        )
        return f"/proc/{pid.strip()}/ns/net"

    def wait_until_ready(self, limit: float = 60) -> None:
        end = time.monotonic() + limit
        while True:
            try:
                if "ready" in self.phases():
                    return
            except ImageError:
                pass  # the stand-in is still starting
            assert time.monotonic() < end, self.store.podman("logs", self.name, what="logs")
            time.sleep(0.05)

    def shell(self, script: str) -> str:
        """Run a script inside with the environment that Jupyter's processes have."""
        adopt = (
            "set -a; for p in /proc/[0-9]*; do "
            "if tr '\\0' '\\n' < $p/environ 2>/dev/null | grep -q ^OIDC_SOCK=; then "
            "eval \"$(tr '\\0' '\\n' < $p/environ | grep -E '^(OIDC_SOCK|AWS_[A-Z0-9_]+)=')\"; "
            "fi; done; set +a\n"
        )
        what = "running a script in the server"
        return self.store.podman(
            "exec", "--interactive", self.name, "bash", "-s", what=what, stdin=adopt + script
        )
