"""A hub of a few lines, for an image under check: it knows one user and hands out one token.

It runs in the same network as the notebook server, which has no other, and remembers what it
was told: ``GET /seen`` answers that.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "check-access-token"  # noqa: S105 - it opens nothing
_USER = {
    "kind": "user",
    "name": "check",
    "admin": False,
    "groups": [],
    "scopes": ["access:servers!server=check/", "users:activity!user=check"],
}
_EVENTS: list[dict[str, Any]] = []


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        answers: dict[str, Any] = {
            "/seen": {"events": _EVENTS},
            "/hub/api": {"version": "6.1.1"},
            "/hub/api/user": _USER,
            "/hub/api/taccuino/servers/notices": {"notices": []},
        }
        self._answer(200 if path in answers else 404, answers.get(path, {"message": "no"}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        now = time.time()
        if self.path.endswith("/taccuino/servers/events"):
            _EVENTS.append(json.loads(body))
            self._answer(204, None)
        elif self.path.endswith("/taccuino/token"):
            issuer = "https://iam.invalid/"
            token = {"access_token": TOKEN, "issuer": issuer, "expires_at": now + 3600}
            self._answer(200, token)
        elif self.path.endswith("/taccuino/credentials"):
            keys = {"AccessKeyId": "check", "SecretAccessKey": "check", "Token": "check"}
            self._answer(200, {**keys, "Expiration": _rfc3339(now + 3600)})
        else:
            self._answer(200, {})

    def _answer(self, status: int, value: Any) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Hub).serve_forever()
