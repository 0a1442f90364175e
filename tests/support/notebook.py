"""A kernel in a person's notebook server, driven over its real websocket."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import connect

from .person import Person


class KernelError(AssertionError):
    """The code raised; the text is the kernel's traceback."""


class Notebook:
    """Runs Python in the server of ``person``, which must be ready; a context manager."""

    def __init__(self, person: Person, limit: float = 60) -> None:
        self.person, self.limit = person, limit
        self.base = f"/user/{person.username}/api"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        answer = self.person.api("POST", f"{self.base}/kernels", json={"name": "python3"})
        assert answer.status_code == 201, answer.text
        self.kernel = answer.json()["id"]
        address = self.person.url.replace("http", "ws", 1)
        self.socket = self._stack.enter_context(
            connect(
                f"{address}{self.base}/kernels/{self.kernel}/channels",
                additional_headers={"Authorization": f"token {self.person.token}"},
                open_timeout=self.limit,
                max_size=None,
            )
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self.person.api("DELETE", f"{self.base}/kernels/{self.kernel}")

    def run(self, code: str) -> str:
        """Execute code; what it printed. Raises KernelError with its traceback."""
        identity = uuid.uuid4().hex
        header = {
            "msg_id": identity,
            "msg_type": "execute_request",
            "username": self.person.username,
            "session": identity,
            "version": "5.3",
        }
        content = {
            "code": code,
            "silent": False,
            "store_history": False,
            "allow_stdin": False,
            # Else the kernel drops what comes shortly after an error, without a word.
            "stop_on_error": False,
        }
        message: dict[str, Any] = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": "shell",
        }
        self.socket.send(json.dumps(message))
        output: list[str] = []
        deadline = time.monotonic() + self.limit
        while (left := deadline - time.monotonic()) > 0:
            reply = json.loads(self.socket.recv(timeout=left))
            if reply["parent_header"].get("msg_id") != identity:
                continue
            kind, body = reply["header"]["msg_type"], reply["content"]
            if kind == "stream":
                output.append(body["text"])
            elif kind == "error":
                raise KernelError("\n".join(body["traceback"]))
            elif kind == "status" and body["execution_state"] == "idle":
                return "".join(output)
        raise AssertionError(f"the code did not end in {self.limit} s; it printed {output}")

    def shell(self, command: str) -> str:
        """Run a shell command in the container; its output, standard error included."""
        return self.run(
            "import subprocess\n"
            f"print(subprocess.run({command!r}, shell=True, text=True, cwd='/workarea',"
            " stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout, end='')"
        )
