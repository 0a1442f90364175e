"""Real Ceph and real canaille behind a minimal edge, started without supervisord."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from joserfc import jwt
from joserfc.jwk import RSAKey

from support.person import Person
from taccuino.local.ceph import ceph_services
from taccuino.local.iam import iam_service, jwks_file, signing_key
from taccuino.local.resolve import keep, resolve
from taccuino.local.service import Service
from taccuino.settings import Settings
from taccuino.storage.clients import StorageClients, s3_client
from taccuino.storage.sts import Credentials

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "haproxy")


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if not shutil.which(name)]


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


def wait_for(condition: Any, seconds: float, what: str) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"{what} not within {seconds} s"
        time.sleep(0.05)


@dataclass
class Stack:
    """The running services, and what tests ask of them."""

    settings: Settings
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    clients: StorageClients = field(init=False)

    def __post_init__(self) -> None:
        self.clients = StorageClients(self.settings)

    def start(self, service: Service) -> None:
        service.prepare()
        log = self.settings.state_dir / "logs" / f"{service.name}.log"
        resolved = str(self.settings.state_dir / "settings.json")
        environment = {**os.environ, **service.environment, "TACCUINO_SETTINGS": resolved}
        with log.open("ab") as output:
            process = subprocess.Popen(
                service.command,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=service.directory or self.settings.state_dir,
                start_new_session=True,
            )
        self.processes[service.name] = process

        def ready() -> bool:
            tail = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"{service.name} exited {process.returncode}\n{tail}"
            return service.ready()

        wait_for(ready, service.ready_timeout, f"{service.name} ready")
        service.after_start()

    def start_ceph(self) -> None:
        for service in ceph_services(self.settings):
            self.start(service)

    def stop(self, names: tuple[str, ...], signal_number: int = signal.SIGTERM) -> None:
        for name in names:
            if process := self.processes.pop(name, None):
                process.send_signal(signal_number)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(timeout=10)

    def start_edge(self) -> None:
        local = self.settings.local
        path = self.settings.state_dir / "edge/test.cfg"
        path.write_text(
            f"""\
defaults
    mode http
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend iam
    bind 127.0.0.1:{local.iam_port}
    http-request return status 200 content-type application/json \
file {jwks_file(self.settings)} if {{ path /oauth/jwks.json }}
    default_backend iam
backend iam
    server iam 127.0.0.1:{local.iam_backend_port}
frontend s3
    bind 127.0.0.1:{local.s3_port}
    http-request wait-for-body time 10s at-least 1 if {{ req.hdr(expect) -m found }}
    http-request del-header Expect
    default_backend s3
backend s3
    server s3 127.0.0.1:{local.s3_backend_port}
"""
        )
        command = ["haproxy", "-db", "-q", "-f", str(path)]
        self.processes["edge"] = subprocess.Popen(command, start_new_session=True)
        wait_for(lambda: self._listens(local.iam_port), 10, "the edge")

    def _listens(self, port: int | None) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port or 0)) == 0

    def client_secret(self) -> str:
        assert self.settings.iam.client_secret_file
        return self.settings.iam.client_secret_file.read_text().strip()

    def accounts(self) -> dict[str, str]:
        items = json.loads((self.settings.state_dir / "accounts.json").read_text())
        return {item["username"]: item["password"] for item in items}

    def login(self, username: str, password: str | None = None) -> dict[str, Any]:
        """Code + PKCE through canaille's own pages; the token endpoint's answer."""
        person = Person(self.settings.url, username, password or self.accounts()[username])
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        redirect = f"{self.settings.url}/hub/oauth_callback"
        query = {
            "response_type": "code",
            "client_id": "taccuino",
            "redirect_uri": redirect,
            "scope": "openid profile email groups",
            "state": "s",
            "nonce": secrets.token_urlsafe(),
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        pages = []
        try:
            page = person.http.get(f"{self.issuer}/oauth/authorize?{urlencode(query)}")
            for _ in range(6):
                pages.append(page.text)
                page = person._answer_form(page)
        except requests.ConnectionError as error:  # nobody listens at the redirect address
            arrived = urlsplit(str(error.request.url if error.request else ""))
        else:
            raise AssertionError(f"the login does not end: {page.url}\n{page.text[:1500]}")
        answer = self.token(
            grant_type="authorization_code",
            code=parse_qs(arrived.query)["code"][0],
            redirect_uri=redirect,
            code_verifier=verifier,
        )
        assert answer.status_code == 200, answer.text
        return {**answer.json(), "pages": pages}

    def token(self, **form: str) -> requests.Response:
        auth = ("taccuino", self.client_secret())
        return requests.post(f"{self.issuer}/oauth/token", data=form, auth=auth, timeout=30)

    @property
    def issuer(self) -> str:
        assert self.settings.iam.issuer
        return self.settings.iam.issuer

    def mint(self, subject: str, **changes: Any) -> str:
        """A token with the IAM's true key; ``key`` and ``headers`` change the signature."""
        own = signing_key(self.settings).jwk
        key = changes.pop("key", None) or RSAKey.import_key(own)
        header = {"alg": "RS256", "kid": own["kid"], **changes.pop("headers", {})}
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": ["taccuino"], "sub": subject}
        claims |= {"iat": now, "exp": now + 600, **changes}
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])

    def s3(self, credentials: Credentials) -> Any:
        return s3_client(
            self.settings,
            credentials.access_key,
            credentials.secret_key,
            credentials.session_token,
        )


@contextlib.contextmanager
def running_stack() -> Iterator[Stack]:
    state = Path(tempfile.mkdtemp(prefix="tc-rgw-", dir="/tmp"))
    names = ("iam_port", "iam_backend_port", "s3_port", "s3_backend_port", "ceph_mon_port")
    ports = free_ports(len(names) + 1)
    local = {**dict(zip(names, ports, strict=False)), "storage_size": "4G"}
    named = Settings.parse({"state_dir": str(state), "port": ports[-1], "local": local})
    settings = keep(resolve(named))
    stack = Stack(settings)
    try:
        stack.start(iam_service(settings))
        stack.start_edge()
        stack.start_ceph()
        yield stack
    finally:
        stack.stop(("iam", "edge", "radosgw", "ceph-osd", "ceph-mon"))
        shutil.rmtree(state, ignore_errors=True)
