"""Answers what the hub asks of a notebook server; its state is a file that the test writes."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from urllib.parse import urlparse

from tornado.web import Application, RequestHandler

PREFIX = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
URL = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
STATE = Path(os.environ["STAND_IN_STATE"])


class API(RequestHandler):
    def get(self, path):
        state = json.loads(STATE.read_text()) if STATE.exists() else {}
        if path and self.request.headers.get("Authorization") != (
            f"token {os.environ['JUPYTERHUB_API_TOKEN']}"
        ):
            self.set_status(403)
            return
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(state.get(path or "version", {"version": "stand-in"})))


async def main():
    Application([(rf"{PREFIX}api/?(.*)", API)]).listen(URL.port, URL.hostname)
    await asyncio.Event().wait()


asyncio.run(main())
