"""A hub that a test scripts: it answers from a table and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]


class HubDouble:
    """Answers ``<url>/taccuino/<path>``; ``answers[path]`` is an answer or makes one."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[Any], Answer]] = {}
        self.requests: list[tuple[str, Any, str]] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(text) if text else None
                path = self.path.removeprefix("/hub/api/taccuino").partition("?")[0]
                double.requests.append((path, body, self.headers["Authorization"]))
                answer = double.answers.get(path, (404, {"message": "no such path"}))
                status, value = answer(body) if callable(answer) else answer
                reply = b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_POST = _serve  # noqa: N815 - http.server's names

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hub/api"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, path: str) -> list[Any]:
        """The bodies that ``path`` was asked with."""
        return [body for asked, body, _ in self.requests if asked == path]
