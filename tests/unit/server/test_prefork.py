"""Jupyter that waits in a process of its own, and starts before its user's files are there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hub_double import HubDouble

from taccuino.server.prefork import FilesGate, Prefork, looks_at

SOURCE = Path(__file__).parents[3] / "src"
# In Jupyter's place: what it sees as it starts, and at the gate.
PROGRAM = """
import json, os, sys
from taccuino.server import launcher
from taccuino.server.link import Link
from taccuino.server.prefork import Prefork

def start(gate):
    keep = ("TACCUINO_BUCKET", "TACCUINO_WORKAREA_FAULTS", "AWS_REGION", "OIDC_SOCK", "SET_BY_JUPYTER")
    os.environ["SET_BY_JUPYTER"] = "kept"
    seen = lambda: [os.getcwd(), {name: os.environ.get(name) for name in keep}]
    print(json.dumps(seen()), flush=True)
    gate.wait()
    print(json.dumps(seen()), flush=True)
    os.write(int(os.environ["TACCUINO_NOTIFY_FD"]), b"ready\\n")

jupyter = Prefork(lambda: start)
assert jupyter.imported()
link = Link(sys.argv.pop())
identity = link.identity()
os.environ.update(identity["environment"])
sys.exit(launcher.run(identity["arguments"], link, jupyter))
"""


@pytest.mark.parametrize(
    ("environment", "arguments", "does"),
    [
        ({"HOME": "/home/user", "JUPYTERHUB_ROOT_DIR": "/workarea"}, [], False),
        ({"HOME": "/workarea"}, [], True),
        ({"JUPYTER_CONFIG_PATH": "/etc/jupyter:/workarea/.jupyter"}, [], True),
        ({"IPYTHONDIR": "/workarea/local"}, [], True),
        ({}, ["--config=/workarea/own.py"], True),
    ],
)
def test_who_looks_at_the_files(
    environment: Mapping[str, str], arguments: list[str], does: bool
) -> None:
    assert looks_at("/workarea", environment, arguments) == does


def waits(gate: FilesGate) -> None:
    gate.wait()


def test_who_waits_in_vain_ends() -> None:
    jupyter = Prefork(lambda: waits)
    assert jupyter.imported()
    jupyter.start([], os.environ)
    os.close(jupyter._orders)
    assert jupyter.notifications.readline() == b""
    assert os.waitstatus_to_exitcode(os.waitpid(jupyter.pid, 0)[1]) == 1


def test_what_can_not_be_started_says_so() -> None:
    jupyter = Prefork(lambda: None)
    assert not jupyter.imported()
    jupyter.end()


def test_an_import_that_fails_is_no_jupyter(capfd: pytest.CaptureFixture[str]) -> None:
    def prepare() -> None:
        raise ImportError("nothing of that name")

    jupyter = Prefork(prepare)
    assert not jupyter.imported()
    jupyter.end()
    assert "nothing of that name" in capfd.readouterr().err


def test_an_identity_of_any_size_arrives(capfd: pytest.CaptureFixture[str]) -> None:
    def start(gate: FilesGate) -> None:
        gate.wait()
        print(len(os.environ["LONG"]), len(os.environ["LONGER"]), Path.cwd(), flush=True)

    jupyter = Prefork(lambda: start)
    assert jupyter.imported()
    jupyter.start([], {"LONG": "x" * 300_000})
    jupyter.go_on("/", {"LONGER": "y" * 400_000})
    assert jupyter.notifications.readline() == b""
    assert os.waitstatus_to_exitcode(os.waitpid(jupyter.pid, 0)[1]) == 0
    assert capfd.readouterr().out == "300000 400000 /\n"


def test_who_has_ended_before_is_no_error(tmp_path: Path) -> None:
    jupyter = Prefork(lambda: sys.exit)
    assert jupyter.imported()
    os.kill(jupyter.pid, signal.SIGKILL)
    os.waitpid(jupyter.pid, 0)
    jupyter.start([], {"NAME": "x" * 100})
    jupyter.go_on(str(tmp_path), {})


@contextmanager
def launcher(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    with socket.socket(socket.AF_UNIX) as listener:
        path = f"/tmp/tc-gate-{os.getpid()}.sock"
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, path],
            env={"PATH": os.environ["PATH"], "HOME": "/", "PYTHONPATH": str(SOURCE)},
            cwd="/",
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            connection, _ = listener.accept()
            Path(path).unlink()
            with connection:
                yield process, connection
        finally:
            process.kill()
            process.communicate()


def tell(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


@pytest.fixture
def identity(tmp_path: Path, hub: HubDouble) -> dict[str, str]:
    workarea = tmp_path / "workarea"
    workarea.mkdir()
    return {
        "JUPYTERHUB_API_URL": hub.url,
        "JUPYTERHUB_API_TOKEN": "server-token",
        "JUPYTERHUB_ROOT_DIR": str(workarea),
    }


def test_jupyter_starts_before_the_files_and_goes_on_with_them(
    tmp_path: Path, identity: dict[str, str]
) -> None:
    workarea = Path(identity["JUPYTERHUB_ROOT_DIR"])
    with launcher(tmp_path) as (process, connection):
        assert process.stdout is not None
        tell(connection, {"environment": identity, "arguments": []})
        before, environment = json.loads(process.stdout.readline())
        assert before == "/"
        assert environment["TACCUINO_BUCKET"] is None
        assert environment["OIDC_SOCK"]
        assert list(workarea.iterdir()) == []
        (workarea / "examples").write_text("a file where a directory is to be made")
        told = {**identity, "TACCUINO_BUCKET": "ada", "AWS_DEFAULT_REGION": "here"}
        tell(connection, {"environment": told})
        after, whole = json.loads(process.stdout.readline())
        assert process.wait(30) == 0
    assert after == str(workarea)
    assert (whole["TACCUINO_BUCKET"], whole["AWS_REGION"]) == ("ada", "here")
    assert (whole["OIDC_SOCK"], whole["SET_BY_JUPYTER"]) == (environment["OIDC_SOCK"], "kept")
    assert "could not be laid" in whole["TACCUINO_WORKAREA_FAULTS"]


def test_without_the_files_all_of_it_ends(tmp_path: Path, identity: dict[str, str]) -> None:
    with launcher(tmp_path) as (process, connection):
        assert process.stdout is not None
        tell(connection, {"environment": identity, "arguments": []})
        process.stdout.readline()
        connection.shutdown(socket.SHUT_RDWR)
        # The end of the output is the end of both.
        assert process.stdout.read() == ""
        assert process.wait(30) == 1
