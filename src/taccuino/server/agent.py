"""The agent: ``oidc-token`` and the AWS SDKs ask it, it asks the hub's broker.

Two listeners, both within the container only: the unix socket ``OIDC_SOCK`` with oidc-agent's
protocol (its ``api-ipc`` documentation), and the container-credentials endpoint on 127.0.0.1
(https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html).
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from hmac import compare_digest
from typing import Any

from .hub_client import HubRefused, HubUnreachable
from .sources import CredentialSource, TokenSource

__all__ = ["CredentialsEndpoint", "OidcAgent"]

_LARGEST_REQUEST = 64 * 1024  # bytes
_CLIENT_TIMEOUT = 30.0  # seconds until a silent client is dropped


class OidcAgent:
    """Answers oidc-agent's requests for the one profile that there is."""

    def __init__(self, profile: str, tokens: TokenSource) -> None:
        self._profile = profile
        self._tokens = tokens

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; a refusal is an answer with ``status`` ``failure``."""
        kind = request.get("request")
        if kind == "access_token":
            return self._access_token(request)
        if kind == "loaded_accounts":
            return {"status": "success", "info": [self._profile]}
        if kind == "check":
            return {"status": "success"}
        if kind == "status":
            text = f"Taccuino's agent: the profile {self._profile} is ready; the hub renews it."
            return {"status": "success", "info": text}
        return _failure(
            f"Taccuino's agent does not know the request {str(kind)[:40]!r}. The service "
            f"manages the profile {self._profile}: nothing needs to be added or generated."
        )

    def _access_token(self, request: dict[str, Any]) -> dict[str, Any]:
        account = request.get("account")
        if account not in (None, self._profile):
            return _failure(
                f"There is no profile {str(account)[:60]!r} here. The profile of this server "
                f"is {self._profile}: run 'oidc-token {self._profile}'."
            )
        audience = request.get("audience")
        try:
            token = self._tokens.token(_seconds(request), audience or "")
        except (HubRefused, HubUnreachable) as error:
            return _failure(str(error))
        wanted = request.get("issuer")
        if wanted and not account and str(wanted).rstrip("/") != token["issuer"].rstrip("/"):
            return _failure(
                f"There is no profile for the issuer {str(wanted)[:200]} here; the one of this "
                f"server is {token['issuer']}."
            )
        keys = ("access_token", "issuer", "expires_at")
        # oidc-agent's clients read expires_at as a whole number.
        return {"status": "success", **{key: token[key] for key in keys}} | {
            "expires_at": int(token["expires_at"])
        }

    def serve(self, listener: socket.socket) -> None:
        """Serve clients of a listening unix socket, each in a thread, without returning."""
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._client, args=(connection,), daemon=True).start()

    def _client(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_CLIENT_TIMEOUT)
            try:
                first = connection.recv(_LARGEST_REQUEST)
                if not first:
                    return
                if first.lstrip().startswith(b"{"):
                    connection.sendall(self._reply(_whole_object(connection, first)))
                    return
                self._encrypted(connection, first)
            except OSError:
                return  # the client went away

    def _encrypted(self, connection: socket.socket, first: bytes) -> None:
        from .ipc_encryption import EncryptionError, Session

        try:
            session = Session(first.strip(b"\0\n "))
            connection.sendall(session.public_key)
            request = session.decrypt(connection.recv(_LARGEST_REQUEST).strip(b"\0\n "))
            connection.sendall(session.encrypt(self._reply(request)))
        except EncryptionError as error:
            connection.sendall(_encode(_failure(f"Taccuino's agent: {error}.")))

    def _reply(self, text: bytes) -> bytes:
        try:
            request = json.loads(text)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return _encode(_failure("The request is no JSON object."))
        return _encode(self.answer(request))


def _whole_object(connection: socket.socket, text: bytes) -> bytes:
    """Read on until the JSON object is whole, or the client says no more."""
    while len(text) < _LARGEST_REQUEST:
        try:
            json.loads(text)
        except ValueError:
            more = connection.recv(_LARGEST_REQUEST)
            if more:
                text += more
                continue
        break
    return text


def _seconds(request: dict[str, Any]) -> int:
    """``min_valid_period``, bounded: ``oidc-token --force-new`` sends a huge one."""
    try:
        return max(0, min(int(request.get("min_valid_period") or 0), 86_400))
    except (TypeError, ValueError):
        return 0


def _failure(message: str) -> dict[str, Any]:
    return {"status": "failure", "error": message}


def _encode(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()


class CredentialsEndpoint(socketserver.ThreadingTCPServer):
    """GET ``/credentials`` with the authorization token -> the storage credentials.

    Written on a bare socket: ``http.server`` would double the agent's memory for one route.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, token: str, source: CredentialSource) -> None:
        super().__init__(listener.getsockname(), _CredentialsHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.token = token
        self.source = source


class _CredentialsHandler(socketserver.StreamRequestHandler):
    server: CredentialsEndpoint
    timeout = 10.0

    def handle(self) -> None:
        try:
            line = self.rfile.readline(4096).split()
            headers = self._headers()
            status, answer = self._answer(line, headers.get("authorization", ""))
            body = json.dumps(answer).encode()
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n"
                "Connection: close\r\n\r\n"
            )
            self.wfile.write(head.encode() + body)
        except OSError:
            return  # the client went away

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(100):
            name, colon, value = self.rfile.readline(8192).decode("latin-1").partition(":")
            if not colon:
                break
            headers[name.strip().lower()] = value.strip()
        return headers

    def _answer(self, line: list[bytes], authorization: str) -> tuple[str, dict[str, Any]]:
        if len(line) != 3 or line[0] != b"GET" or line[1].split(b"?")[0] != b"/credentials":
            return "404 Not Found", _error("NotFound", "only GET /credentials is served here")
        if not compare_digest(authorization.encode(), self.server.token.encode()):
            message = "the Authorization header must be $AWS_CONTAINER_AUTHORIZATION_TOKEN"
            return "403 Forbidden", _error("Forbidden", message)
        try:
            return "200 OK", self.server.source.credentials()
        except HubRefused as error:
            return "403 Forbidden", _error(error.reason or "Refused", str(error))
        except HubUnreachable as error:
            return "503 Service Unavailable", _error("HubUnreachable", str(error))


def _error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}
