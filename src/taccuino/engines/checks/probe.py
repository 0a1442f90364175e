"""Looks at a notebook server from inside its container and prints what it finds as JSON lines.

Each line is ``{"name", "passed", "detail"}``. The image's Python gets it on standard input.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SERVER, HUB, PREFIX = 8888, 8081, "/user/check"
LIMIT = float(os.environ.get("PROBE_SECONDS", "60"))


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """The status and the body of a request within the container."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def until(found: Callable[[], Any], wanted: str) -> Any:
    """What ``found`` returns as soon as that is true."""
    end = time.monotonic() + LIMIT
    problem = ""
    while time.monotonic() < end:
        try:
            value = found()
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = f": {error}"
        else:
            if value:
                return value
        time.sleep(0.1)
    raise AssertionError(f"{wanted} within {LIMIT:.0f} seconds{problem}")


def server() -> str:
    """Jupyter Server answers."""

    def version() -> str:
        status, body = get(SERVER, f"{PREFIX}/api")
        return str(json.loads(body)["version"]) if status == 200 else ""

    return f"Jupyter Server {until(version, 'no answer')}"


def interface() -> str:
    """Both interfaces answer a user who is logged in."""
    token = {"Authorization": "token check"}
    for page in ("/lab", "/tree"):
        status, _ = get(SERVER, PREFIX + page, token)
        assert status == 200, f"{page} answers with status {status}"
    return "/lab and /tree answer"


def kernels() -> str:
    """There is a kernel."""
    status, body = get(SERVER, f"{PREFIX}/api/kernelspecs", {"Authorization": "token check"})
    names = sorted(json.loads(body).get("kernelspecs", {})) if status == 200 else []
    assert names, "no kernel is installed"
    return ", ".join(names)


def launcher() -> str:
    """The launcher told the hub each phase."""

    def ready() -> bool:
        events = json.loads(get(HUB, "/seen")[1])["events"]
        failed = [event["message"] for event in events if event["phase"] == "failed"]
        assert not failed, failed[0]
        return any(event["phase"] == "ready" for event in events)

    until(ready, "taccuino-server did not say that the server is ready")
    return "told each phase of the start"


def agent_environment() -> dict[str, str]:
    """The variables with which the launcher started Jupyter."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            pairs = (directory / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found = dict(pair.decode().split("=", 1) for pair in pairs if b"=" in pair)
        if "OIDC_SOCK" in found:
            return found
    raise AssertionError("no process has OIDC_SOCK: the launcher started nothing")


def agent() -> str:
    """The real ``oidc-token`` gets a token."""
    environment = agent_environment()
    profile = environment.get("TACCUINO_OIDC_PROFILE", "infncloud")
    program = shutil.which("oidc-token")
    assert program, "oidc-token is not installed (Debian's package oidc-agent-cli)"
    done = subprocess.run(
        [program, profile],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stdout.strip() == "check-access-token", done.stderr.strip()
    return f"oidc-token {profile} answers"


def credentials() -> str:
    """The endpoint hands out keys, to those with its token only."""
    environment = agent_environment()
    address = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    port = int(address.split(":")[2].split("/")[0])
    token = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    status, body = get(port, "/credentials", {"Authorization": token})
    assert status == 200, body.decode(errors="replace")
    status, _ = get(port, "/credentials")
    assert status == 403, "the endpoint answers without its token"
    return "handed out to the AWS SDKs"


def mounts() -> str:
    """The workarea is the user's, and later mounts propagate."""
    marker = Path("/workarea/cloud_storage/late/marker")
    until(marker.is_file, "a mount made after the start is not visible")
    (marker.parent / "written").write_text("written by the server's user")
    Path("/workarea/local").mkdir(exist_ok=True)
    Path("/workarea/local/written").write_text("written by the server's user")
    return "the workarea is writable; a mount made after the start is seen"


def rights() -> str:
    """The processes are unprivileged."""
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    assert os.getuid() == 1000, f"processes run as uid {os.getuid()}, not 1000"
    assert capabilities == 0, f"processes have capabilities {capabilities:x}"
    return "uid 1000, no capability"


PROBES: dict[str, Callable[[], str]] = {
    "server": server,
    "pages": interface,
    "kernels": kernels,
    "launcher": launcher,
    "agent": agent,
    "storage keys": credentials,
    "mounts": mounts,
    "rights": rights,
}

if __name__ == "__main__":
    for name, probe in PROBES.items():
        try:
            detail, passed = probe(), True
        except (
            AssertionError,
            OSError,
            ValueError,
            KeyError,
            subprocess.SubprocessError,
        ) as error:
            detail, passed = str(error) or type(error).__name__, False
        sys.stdout.write(json.dumps({"name": name, "passed": passed, "detail": detail}) + "\n")
        sys.stdout.flush()
        if name == "server" and not passed:
            break
