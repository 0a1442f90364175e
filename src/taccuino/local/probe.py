"""Short questions to a service that may not be there yet: no answer is an answer."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

from taccuino.settings import Settings

__all__ = ["http_answer", "http_status", "port_answers", "socket_answers"]

_SECONDS = 3.0


def http_answer(settings: Settings, path: str) -> tuple[int, str] | None:
    """Status and body of a page of the service, asked at this machine's own edge.

    The certificate is not verified: it names the public address, and what is asked holds no
    secret. ``None`` if there is no answer.
    """
    host = settings.edge.bind
    if host in {"*", "0.0.0.0", "::"}:
        # Where users know another address, the host is this site's own.
        host = settings.host if settings.address else "127.0.0.1"
    connection: http.client.HTTPConnection
    if settings.edge.certificate:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            host, settings.port, timeout=_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, settings.port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Host": f"{settings.host}:{settings.port}"})
        response = connection.getresponse()
        return response.status, response.read(65536).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def http_status(settings: Settings, path: str) -> int | None:
    """The status of a page of the service; ``None`` if there is no answer."""
    answer = http_answer(settings, path)
    return answer[0] if answer else None


def port_answers(port: int, page: str) -> bool:
    """Whether a page of a service on the loopback interface answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", page)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def socket_answers(path: Path, page: str | None = None) -> bool:
    """Whether a unix socket accepts a connection, and a page named answers 200."""
    connection = _SocketConnection(path)
    try:
        connection.connect()
        if page is None:
            return True
        connection.request("GET", page)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
