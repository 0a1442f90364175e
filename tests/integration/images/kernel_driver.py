"""Runs inside a notebook server's container: Jupyter's API, and kernels over their websockets.

The program that a test runs there begins with this file's text.
"""

from __future__ import annotations

import ast
import contextlib
import faulthandler
import json
import os
import signal
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import websocket  # the server's own, as its Python runs this

SERVER = "127.0.0.1:8888/user/check"
TOKEN = {"Authorization": "token t"}
LIMIT = 60.0
# The server's pings would keep a program waiting for a message that never comes.
faulthandler.dump_traceback_later(2 * LIMIT, exit=True)


def api(method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    address = f"http://{SERVER}/api/{path}"
    request = urllib.request.Request(address, data, TOKEN, method=method)
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait_for(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def session(path: str, kernel: str = "python3") -> str:
    """The id of the kernel of a notebook that is opened."""
    body = {
        "path": path,
        "name": Path(path).name,
        "type": "notebook",
        "kernel": {"name": kernel},
    }
    return str(api("POST", "sessions", body)["kernel"]["id"])


def write(path: str, metadata: Any = None) -> None:
    """Save a notebook without a cell."""
    content = {"cells": [], "metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 5}
    api("PUT", f"contents/{path}", {"type": "notebook", "format": "json", "content": content})


def read(path: str) -> Any:
    """What a page gets of a notebook that is opened."""
    return api("GET", f"contents/{path}?type=notebook&content=1")


class Kernel:
    """A page's connection to a kernel."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        address = f"ws://{SERVER}/api/kernels/{identity}/channels?session_id={uuid.uuid4().hex}"
        self.socket = websocket.create_connection(address, timeout=LIMIT, header=TOKEN)

    def send(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        identity = uuid.uuid4().hex
        header = {"msg_id": identity, "msg_type": kind, "username": "u", "session": identity}
        message = {"header": header | {"version": "5.3"}, "content": content}
        self.socket.send(
            json.dumps(message | {"parent_header": {}, "metadata": {}, "channel": channel})
        )
        return identity

    def messages(self) -> Iterator[dict[str, Any]]:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            yield json.loads(self.socket.recv())
        raise AssertionError("waited in vain for a message")

    def reply(self, identity: str) -> dict[str, Any]:
        for message in self.messages():
            kind = message["header"]["msg_type"]
            if message["parent_header"].get("msg_id") == identity and kind.endswith("_reply"):
                return dict(message["content"])
        raise AssertionError

    def start(self, code: str, expression: str = "None") -> str:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        return self.send("execute_request", content | {"user_expressions": {"it": expression}})

    def run(self, code: str, expression: str = "None") -> Any:
        """The value of the expression after the code."""
        content = self.reply(self.start(code, expression))
        assert content["status"] == "ok", content
        return ast.literal_eval(content["user_expressions"]["it"]["data"]["text/plain"])

    @property
    def pid(self) -> int:
        return int(self.run("import os", "os.getpid()"))


def waiting() -> dict[int, bytes]:
    """The command lines of the spares, by their process ids."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if b"/spare_kernel.py" in line:
                found[int(process.name)] = line
    return found


def prepared(pid: int) -> bool:
    """Whether a spare has done its imports, of which this library is one of the last."""
    process = Path(f"/proc/{pid}")
    imported = b"_psutil_linux" in (process / "maps").read_bytes()
    return imported and "Threads:\t1\n" in (process / "status").read_text()


def spare() -> int:
    """The spare that there is after a page asked what runs."""

    def look() -> int | None:
        api("GET", "kernels")
        return next(filter(prepared, waiting()), None)

    return int(wait_for(look))


# For the programs.
__all__ = ["os", "signal", "threading"]


def tell(value: Any) -> None:
    """What the test gets of its program."""
    print(json.dumps(value))
