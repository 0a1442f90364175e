"""The load of ``bench edge``: wrk for HTTP, and a client of few lines for websockets."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .stand_in import LONGEST_MESSAGE

CONNECTIONS = 64
"""At the same time, of HTTP as of websockets: of all users, so many are busy."""

HEADERS = {
    # What Chromium sends with JupyterLab's requests.
    "Accept": "*/*",
    "Accept-Language": "en-GB,en;q=0.9,it;q=0.8",
    "Cache-Control": "no-store",
    "Content-Type": "application/json",
    "Cookie": (
        "_xsrf=2|8e32fb84|57d2b5d4f1b6|1764000000; jupyterhub-session-id=3c8dc2cf8a0b4f0f93a1; "
        'jupyterhub-user-bench="2|1:0|10:1764000000|21:jupyterhub-user-bench|44:ZmFrZQ==|fake"'
    ),
    "Pragma": "no-cache",
    "Referer": "http://127.0.0.1/user/bench/lab/tree/notes.ipynb",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0",
    "X-XSRFToken": "2|8e32fb84|57d2b5d4f1b6|1764000000",
    "sec-ch-ua": '"Chromium";v="142", "Not_A Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
}
"""Without ``Accept-Encoding``: what compresses and what does not could not be compared."""

_SCRIPT = """
local requests = {}
function init(arguments)
    for number, user in ipairs(arguments) do
        requests[number] = wrk.format("GET", "/user/bench" .. user .. "/api/kernels")
    end
end
function request()
    return requests[math.random(#requests)]
end
function done(summary, latency, all)
    local errors = summary.errors
    print(string.format('\\n{"answers": %d, "failures": %d}', summary.requests,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def busy(routes: int) -> list[int]:
    """The users who are busy, of so many: each connection's, evenly spread over the routes."""
    return [number * routes // CONNECTIONS for number in range(CONNECTIONS)]


@dataclass(frozen=True)
class Answers:
    """What a load got."""

    answers: int
    failures: int


def ensure_wrk() -> None:
    """Install wrk if it is missing."""
    if not shutil.which("wrk"):
        words = ["apt-get", "install", "-y", "--no-install-recommends", "wrk"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)


def http_load(port: int, routes: int, seconds: float, directory: Path) -> Answers:
    """Request as fast as the answers come, each for a busy user that chance picks."""
    script = directory / "load.lua"
    script.write_text(_SCRIPT)
    words = ["wrk", "--threads=1", f"--connections={CONNECTIONS}", f"--duration={seconds:.0f}s"]
    words += [f"--script={script}", *(f"--header={k}: {v}" for k, v in HEADERS.items())]
    words += [f"http://127.0.0.1:{port}", "--", *map(str, busy(routes))]
    result = subprocess.run(
        words, check=True, capture_output=True, text=True, timeout=seconds + 60
    )
    return answers_of(result.stdout)


def answers_of(output: str) -> Answers:
    """What wrk's last line says: to wrk, an answer with an error's status is an answer too."""
    told = json.loads(output.strip().splitlines()[-1])
    return Answers(told["answers"] - told["failures"], told["failures"])


class _Chatter(asyncio.Protocol):
    """A websocket that sends a message, waits for its echo, and so on."""

    FRAME = b"\x82" + bytes((0x80 | LONGEST_MESSAGE,)) + bytes(4) + b"." * LONGEST_MESSAGE
    ECHO = 2 + LONGEST_MESSAGE

    def __init__(self, path: str) -> None:
        self.answers = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._path = path
        self._head: bytes | None = b""
        self._missing = self.ECHO

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the websocket."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        lines = [
            f"GET {self._path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *(f"{name}: {value}" for name, value in HEADERS.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        """Count echoes, and send the next message after each."""
        if self._head is not None:
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            if not self._head.startswith(b"HTTP/1.1 101"):
                self.transport.close()
                return
            self._head = None
            self.transport.write(self.FRAME)
            return
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing += self.ECHO
            self.answers += 1
            self.transport.write(self.FRAME)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The end."""
        if not self.ended.done():
            self.ended.set_result(None)


async def websocket_load(port: int, routes: int, seconds: float) -> Answers:
    """Round trips over open websockets; one that ends before its time is a failure."""
    loop = asyncio.get_running_loop()
    chatters = []
    for user in busy(routes):
        path = f"/user/bench{user}/api/kernels/1/channels"
        _, chatter = await loop.create_connection(
            lambda path=path: _Chatter(path),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        chatters.append(chatter)
    await asyncio.sleep(seconds)
    failures = sum(chatter.ended.done() or not chatter.answers for chatter in chatters)
    answers = sum(chatter.answers for chatter in chatters)
    for chatter in chatters:
        chatter.transport.abort()
    await asyncio.gather(*(chatter.ended for chatter in chatters))
    return Answers(answers, failures)
