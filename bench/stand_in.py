"""A small, fast web server that stands for notebook servers: ``python -m bench.stand_in``.

It answers any request with JSON that tells the path, and echoes websocket messages. It prints
its port and serves until it is ended. All in plain asyncio, so that it takes less CPU than what
is measured in front of it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyterhub import __version__

PADDING = "." * 200
"""An answer has about the size of a list of one kernel."""
HEADERS = f"""\
Server: TornadoServer/6.5\r
Content-Type: application/json\r
Date: Wed, 25 Nov 2026 18:00:00 GMT\r
X-Content-Type-Options: nosniff\r
Content-Security-Policy: frame-ancestors 'self'; report-uri /api/security/csp-report\r
X-JupyterHub-Version: {__version__}\r
Last-Modified: Wed, 25 Nov 2026 18:00:00 GMT\r
Cache-Control: no-cache\r
Etag: "9c4c5c0e0b1d2b6c5f1e0c4b6a5b9a7c3a0e8d11"\r
""".encode()
"""Of an answer: as a notebook server sends them."""
LONGEST_MESSAGE = 125
"""Bytes in a websocket frame whose length fits into its second byte (RFC 6455, section 5.2)."""

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_WEBSOCKET_KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)\r\n", re.IGNORECASE)


def answer_to(head: bytes) -> bytes:
    """The whole answer to a request with this head, or a websocket's handshake."""
    if found := _WEBSOCKET_KEY.search(head):
        accept = base64.b64encode(hashlib.sha1(found[1] + _MAGIC).digest())
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
    request = _REQUEST.match(head)
    path = request[2].decode("latin-1") if request else ""
    body = json.dumps({"path": path, "padding": PADDING}).encode()
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (HEADERS, len(body), body)


def take_request(buffer: bytearray) -> bytes | None:
    """Take a request off the buffer and return its head; None while it is not all there."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[: end + 4])
    length = _LENGTH.search(head)
    whole = len(head) + (int(length[1]) if length else 0)
    if len(buffer) < whole:
        return None
    del buffer[:whole]
    return head


def take_message(buffer: bytearray) -> bytes | None:
    """Take a client's websocket frame off the buffer and return its payload; None as above.

    Raises
    ------
    ValueError
        If it is none that the benchmarks send.
    """
    if len(buffer) < 2:
        return None
    length = buffer[1] & 0x7F
    if not buffer[1] & 0x80 or length > LONGEST_MESSAGE:
        raise ValueError("a frame that is not masked, or too long")
    if len(buffer) < 6 + length:
        return None
    mask, payload = buffer[2:6], buffer[6 : 6 + length]
    del buffer[: 6 + length]
    return bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


class StandIn(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; for nobody but this machine."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        if not transport.get_extra_info("sockname")[0].startswith("127."):
            self._transport.abort()
        self._buffer = bytearray()
        self._upgraded = False

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        if not self._upgraded:
            while head := take_request(self._buffer):
                answer = answer_to(head)
                self._transport.write(answer)
                if answer.startswith(b"HTTP/1.1 101"):
                    self._upgraded = True
                    break
        if self._upgraded:
            try:
                while (payload := take_message(self._buffer)) is not None:
                    self._transport.write(bytes((0x82, len(payload))) + payload)
            except ValueError:
                self._transport.close()


def address(port: int, number: int = 0) -> str:
    """An address for each of 65,536 servers: in service, each has its own."""
    return f"http://127.1.{number >> 8}.{number & 255}:{port}"


@contextmanager
def stand_in() -> Iterator[int]:
    """Run one as a process of its own; its port, at all addresses of 127.0.0.0/8."""
    command = [sys.executable, "-m", "bench.stand_in"]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


async def _serve() -> None:
    # A proxy keeps a connection for each route.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(StandIn, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
