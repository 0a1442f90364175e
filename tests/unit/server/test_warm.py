"""A warm server, run for real with a program in Jupyter's place."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hub_double import HubDouble

from taccuino.server.warm import must_be_read_at_start

SOURCE = Path(__file__).parents[3] / "src"


@pytest.mark.parametrize(
    ("old", "new", "must"),
    [
        ({}, {"JUPYTERHUB_USER": "ada"}, False),
        ({"LANG": "C"}, {"LANG": "C"}, False),
        ({"LANG": "C"}, {"LANG": "de_DE.UTF-8"}, True),
        ({}, {"PYTHONPATH": "/opt"}, True),
        ({"LD_PRELOAD": "x"}, {}, True),
    ],
)
def test_what_is_read_at_start(old: dict[str, str], new: dict[str, str], must: bool) -> None:
    assert must_be_read_at_start(old, new) == must


@contextmanager
def warm(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket, BinaryIO]]:
    """A warm server that waits, and the hub's end of its line."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = f"{directory}/hub.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(60)
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "TACCUINO_LINK": path,
                "PYTHONPATH": str(SOURCE),
            }
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "import sys; from taccuino.server.launcher import main; sys.exit(main([]))",
                ],
                env=environment,
                cwd="/",
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                connection, _ = listener.accept()
                connection.settimeout(60)
                with connection, connection.makefile("rb") as lines:
                    assert json.loads(lines.readline())["phase"] == "warm"
                    yield process, connection, lines
            finally:
                process.kill()
                process.communicate()


def become(connection: socket.socket, arguments: list[str], **environment: str) -> None:
    """Tell it who it is; the files follow, here at once."""
    identity = {"environment": environment, "arguments": arguments}
    for message in (identity, {"environment": environment}):
        connection.sendall(json.dumps(message).encode() + b"\n")


def hubs(hub: HubDouble, tmp_path: Path) -> dict[str, str]:
    hub.answers["/servers/events"] = (204, None)
    return {
        "JUPYTERHUB_API_URL": hub.url,
        "JUPYTERHUB_API_TOKEN": "server-token",
        "JUPYTERHUB_ROOT_DIR": str(tmp_path),
    }


SEEN = (
    "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)])); "
    "os.write(int(os.environ['TACCUINO_NOTIFY_FD']), b'ready\\n')"
)


def test_a_hub_that_hangs_up_ends_it(tmp_path: Path) -> None:
    with warm(tmp_path) as (process, connection, _):
        connection.shutdown(socket.SHUT_RDWR)
        output, _ = process.communicate(timeout=30)
    assert (output, process.returncode) == ("", 0)


def test_it_becomes_what_it_is_told(tmp_path: Path, hub: HubDouble) -> None:
    program = [sys.executable, "-c", SEEN]
    with warm(tmp_path) as (process, connection, lines):
        become(connection, program, **hubs(hub, tmp_path), JUPYTERHUB_USER="ada")
        phases = [json.loads(line)["phase"] for line in lines]
        output, _ = process.communicate(timeout=30)
    directory, environment = json.loads(output)
    assert phases == ["booting", "jupyter", "ready"]
    assert directory == str(tmp_path)
    assert environment["JUPYTERHUB_USER"] == "ada"
    assert environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    assert "TACCUINO_LINK" not in environment
    assert (tmp_path / "examples").is_dir()
    assert hub.asked("/servers/events") == []  # the line told it all


def test_one_that_ends_too_early_says_so(tmp_path: Path, hub: HubDouble) -> None:
    with warm(tmp_path) as (process, connection, lines):
        become(connection, [sys.executable, "-c", "exit(3)"], **hubs(hub, tmp_path))
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        process.communicate(timeout=30)
    assert events[-1]["phase"] == "failed"
    assert "code 3" in events[-1]["message"]
    assert process.returncode == 3
