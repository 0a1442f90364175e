"""What runs in the tests' containers in place of Jupyter: it answers, and says what it sees."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any


class Double(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        try:
            answer = getattr(self, f"see_{url.path.rpartition('/')[2]}")(**query)
        except OSError as error:
            answer = {"error": type(error).__name__}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def see_api(self) -> Any:
        return {"version": "0"}

    def see_status(self) -> Any:
        return Path("/proc/self/status").read_text()

    def see_uid_map(self) -> Any:
        return Path("/proc/self/uid_map").read_text().split()

    def see_environment(self) -> Any:
        return dict(os.environ)

    def see_connect(self, host: str, port: str) -> Any:
        socket.create_connection((host, int(port)), timeout=2).close()
        return "connected"

    def see_write(self, path: str) -> Any:
        Path(path).write_text("hello")
        return Path(path).stat().st_uid

    def see_list(self, path: str) -> Any:
        return [entry.name for entry in Path(path).iterdir()]

    def see_eat(self) -> Any:
        code = "x = [bytearray(1 << 20) for _ in range(10_000)]"
        return subprocess.run([sys.executable, "-c", code]).returncode

    def see_die(self) -> Any:
        os._exit(7)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    http.server.ThreadingHTTPServer(("0.0.0.0", 8888), Double).serve_forever()
