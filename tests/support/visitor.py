"""A user of several sites as their browser sees them: cookies, pages, a websocket, files.

A visitor works all the time. What fails is noted, and then they do what a person does: they
load the page again until it is served, and start a new server where they are told to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from .person import Person

_ANSWER_SECONDS = 8.0
_CELL_SECONDS = 15.0
_START_SECONDS = 60.0


@dataclass
class Trouble:
    """What one visitor noticed of a fault, and for how long."""

    doing: str
    what: str
    at: float
    page_after: float | None = None
    """Seconds until any page was served again."""
    work_after: float | None = None
    """Seconds until their work went on."""
    last: str = ""
    """What failed last when they tried again."""
    told: str = ""
    moved: bool = False
    """Whether they needed a new server."""


@dataclass
class Record:
    """What a visitor did since the record was begun."""

    requests: int = 0
    failed: int = 0
    cells: int = 0
    dropped: int = 0
    """Websockets that ended under them."""
    troubles: list[Trouble] = field(default_factory=list)


class Visitor(threading.Thread):
    """One user, working until `end` is called.

    Parameters
    ----------
    person
        Who they are.
    seed
        Decides what they do.
    restarts
        Whether they start their server anew all the time, rather than work in it.
    """

    def __init__(self, person: Person, seed: int, *, restarts: bool = False) -> None:
        super().__init__(name=person.username, daemon=True)
        self.person, self.restarts = person, restarts
        self.record = Record()
        self.saved: dict[str, str] = {}
        """SHA-256 of each object that was saved, by its key."""
        self.doing = "arriving"
        self.fault: BaseException | None = None
        self._chance = random.Random(seed)
        self._seed = seed
        self._over = threading.Event()
        self._comes_anew = threading.Event()
        self._socket: ClientConnection | None = None
        self._stack = contextlib.ExitStack()
        self._base = f"/user/{person.username}"
        self._count = 0
        self._checked: set[str] = set()

    # -- what the test asks

    @property
    def site(self) -> str | None:
        """The site whose hub answered this browser last."""
        found = [c.value for c in self.person.http.cookies if c.name == "taccuino-site"]
        return found[-1] if found else None

    def end(self) -> None:
        """Let them stop working."""
        self._over.set()

    def come_anew(self) -> None:
        """Let them stop their server and come back in another browser, where they belong."""
        self._comes_anew.set()

    @property
    def arrives(self) -> bool:
        """Whether they are not at work yet."""
        return self.doing == "arriving" or self._comes_anew.is_set()

    @property
    def in_trouble(self) -> bool:
        """Whether something failed that does not work again yet."""
        return any(trouble.work_after is None for trouble in self.record.troubles)

    def lost(self, s3: Any, bucket: str, saved: dict[str, str]) -> list[str]:
        """What of that is not in the bucket as it was saved."""
        found = {}
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=f"crowd-{self._seed}/"
        )
        for page in pages:
            for item in page.get("Contents", []):
                if item["Key"] in saved and item["Key"] not in self._checked:
                    body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                    found[item["Key"]] = hashlib.sha256(body).hexdigest()
        right = {key for key, digest in found.items() if saved[key] == digest}
        self._checked |= right
        return [f"{self.name}: {key}" for key in saved if key not in self._checked]

    # -- their day

    def run(self) -> None:
        """Arrive, and work."""
        try:
            self._arrive()
            while not self._over.is_set():
                if self._comes_anew.is_set():
                    self._arrive(anew=True)
                self._step()
        except BaseException as error:  # noqa: BLE001 - it is the test's to raise
            self.fault = error
        finally:
            self._close()

    def _arrive(self, *, anew: bool = False) -> None:
        self.doing = "arriving"
        try:
            if anew:
                self._stop_server()
                person = self.person
                self.person = Person(person.url, person.username, person.password)
                self._comes_anew.clear()
            self.person.login()
            self._start()
            self._connect()
        except _TROUBLES as error:  # a busy machine: it is no fault that is looked for yet
            self._recover(error)

    def _step(self) -> None:
        steps = [self._restart] if self.restarts else [self._cell, self._save, self._look]
        step = self._chance.choice(steps)
        try:
            step()
        except _TROUBLES as error:
            self._recover(error)
        self.doing = "idle"
        self._over.wait(self._chance.uniform(0.3, 1.5))

    def _recover(self, error: Exception) -> None:
        trouble = Trouble(
            self.doing, f"{type(error).__name__}: {error}"[:300], time.monotonic()
        )
        self.record.troubles.append(trouble)
        self.record.failed += 1
        self._close()
        while not self._over.is_set():
            try:
                page = self._page(trouble)
                if trouble.page_after is None:
                    trouble.page_after = time.monotonic() - trouble.at
                if f"{self._base}/" not in page.url or "/hub/" in page.url:
                    trouble.moved = True
                    self._start()
                self._connect()
                self._run_cell("print(1)")
            except _TROUBLES as again:
                trouble.last = f"{type(again).__name__}: {again}"[:500]
                if isinstance(again, requests.TooManyRedirects) and again.response is not None:
                    chain = [one.url for one in again.response.history[-6:]]
                    trouble.last += f" {chain}"
                self._over.wait(0.3)
            else:
                trouble.work_after = time.monotonic() - trouble.at
                return

    def _page(self, trouble: Trouble) -> requests.Response:
        """Load the page of their server, wherever that leads; log in where that is asked."""
        page = self._get(f"{self._base}/lab")
        if "/hub/login" in page.url:
            page = self.person.login()
        if page.status_code not in (200, 424):
            raise _RefusedError(f"{page.status_code} {page.url}")
        if told := re.search(r"data-elsewhere=[^>]*>([^<]*)", page.text):
            trouble.told = " ".join(told[1].split())
        return page

    # -- what they do

    def _look(self) -> None:
        self.doing = "looking at files"
        self._expect(self._get(f"{self._base}/api/contents/cloud_storage"), 200)

    def _save(self) -> None:
        self.doing = "saving"
        self._count += 1
        key = f"crowd-{self._seed}/{self._count}.txt"
        text = self._chance.randbytes(self._chance.randrange(100, 200_000)).hex()
        body = {"type": "file", "format": "text", "content": text}
        if self._count == 1:
            folder = {"type": "directory"}
            self._send("PUT", self._path(f"crowd-{self._seed}"), folder, 201)
        self._send("PUT", self._path(key), body, 200, 201)
        self.saved[key] = hashlib.sha256(text.encode()).hexdigest()

    def _path(self, key: str) -> str:
        return f"{self._base}/api/contents/cloud_storage/{self.person.username}/{key}"

    def _cell(self) -> None:
        self.doing = "running a cell"
        self._run_cell("import time; time.sleep(0.5); print(1)")
        self.record.cells += 1

    def _restart(self) -> None:
        self.doing = "starting"
        self._stop_server()
        self._start()
        self._connect()

    def _stop_server(self) -> None:
        self._close()
        path = f"/hub/api/users/{self.person.username}/server"
        self._send("DELETE", path, None, 202, 204, 400)
        limit = time.monotonic() + _START_SECONDS
        while self._server_state() is not None:
            if time.monotonic() > limit:
                raise _RefusedError("the server does not stop")
            time.sleep(0.2)

    def _start(self) -> None:
        """Start the server as the page's link does, and wait until it is ready."""
        path = f"/hub/api/users/{self.person.username}/server"
        answer = self._request("POST", path, json={"image": "base"})
        running = answer.status_code == 400 and "already" in answer.text
        if not running:
            self._expect(answer, 201, 202)
        limit = time.monotonic() + _START_SECONDS
        while not ((state := self._server_state()) and state["ready"]):
            if time.monotonic() > limit or state is None:
                raise _RefusedError(f"the server does not start: {state}")
            time.sleep(0.1)

    def _server_state(self) -> dict[str, Any] | None:
        answer = self._get(f"/hub/api/users/{self.person.username}")
        self._expect(answer, 200)
        servers = answer.json()["servers"]
        return servers.get("") if servers else None

    def _connect(self) -> None:
        """Open the page's kernel and its websocket."""
        self._close()
        self._expect(self._get(f"{self._base}/lab"), 200)
        path = f"{self._base}/api/kernels"
        kernel = self._send("POST", path, {"name": "python3"}, 201).json()["id"]
        address = f"{self.person.url.replace('http', 'ws', 1)}{path}/{kernel}/channels"
        self._socket = self._stack.enter_context(
            connect(
                address,
                additional_headers={"Cookie": self._cookies()},
                open_timeout=_ANSWER_SECONDS,
                max_size=None,
            )
        )

    def _run_cell(self, code: str) -> None:
        assert self._socket is not None
        identity = uuid.uuid4().hex
        header = {"msg_id": identity, "msg_type": "execute_request", "username": self.name}
        header |= {"session": identity, "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        try:
            self._socket.send(json.dumps(message | {"channel": "shell"}))
            limit = time.monotonic() + _CELL_SECONDS
            while (left := limit - time.monotonic()) > 0:
                reply = json.loads(self._socket.recv(timeout=left))
                if reply["parent_header"].get("msg_id") != identity:
                    continue
                if reply["content"].get("execution_state") == "idle":
                    return
        except (WebSocketException, OSError):
            self.record.dropped += 1
            raise
        raise _RefusedError("a cell did not end")

    # -- HTTP with cookies

    def _get(self, path: str) -> requests.Response:
        return self._request("GET", path)

    def _send(self, method: str, path: str, body: Any, *expected: int) -> requests.Response:
        answer = self._request(method, path, json=body)
        self._expect(answer, *expected)
        return answer

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        self.record.requests += 1
        headers = {"Referer": f"{self.person.url}/"}
        if method != "GET":
            headers["X-XSRFToken"] = self._xsrf(path)
        return self.person.http.request(
            method, self.person.url + path, headers=headers, timeout=_ANSWER_SECONDS, **options
        )

    def _xsrf(self, path: str) -> str:
        """The token of the part of the site that the path belongs to: of its page's cookie."""
        found = [
            c
            for c in self.person.http.cookies
            if c.name == "_xsrf" and path.startswith(c.path.rstrip("/"))
        ]
        return max(found, key=lambda c: len(c.path)).value or "" if found else ""

    def _cookies(self) -> str:
        request = requests.Request("GET", f"{self.person.url}{self._base}/api/kernels")
        prepared = self.person.http.prepare_request(request)
        return str(prepared.headers.get("Cookie", ""))

    def _expect(self, answer: requests.Response, *statuses: int) -> None:
        if answer.status_code not in statuses or "/hub/login" in answer.url:
            text = (
                answer.text[:200]
                if "html" not in answer.headers.get("content-type", "")
                else ""
            )
            raise _RefusedError(
                f"{answer.request.method} {answer.url}: {answer.status_code} {text}"
            )

    def _close(self) -> None:
        self._socket = None
        with contextlib.suppress(WebSocketException, OSError):
            self._stack.close()


class _RefusedError(Exception):
    """An answer that is not the one expected."""


_TROUBLES = (
    requests.RequestException,
    WebSocketException,
    OSError,
    AssertionError,
    _RefusedError,
)
"""What a visitor meets when something is broken; a login that does not end is an assertion."""
