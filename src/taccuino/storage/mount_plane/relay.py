"""The node's way to the object storage: one HAProxy between every rclone and the storage.

rclone alone waits for minutes when the storage is away: each of its calls has a timeout and
retries of its own, and all others of a directory queue behind it (measured: 30 s to 10 min).
The relay asks the storage itself, once for the node, and as soon as two questions in a row
were not answered it ends what is under way and refuses at once what comes (504, which neither
the AWS SDK nor rclone tries again within a call). So a read fails in time, no process hangs,
and everybody learns of a cut by one probe. Listings and HEAD are answered all the same, with
what the storage said last (`kept`).

rclone reaches it as an HTTP proxy (``http_proxy``), so that requests are signed for the
storage's own name; TLS is spoken by the relay. Each rclone has a password of its own, by which
the relay knows whose question it is; nobody else on the machine gets through. HAProxy and
nginx outlive the daemon, as rclone does. Listings pass through the daemon (`listing_server`),
and by it where it is dead.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import hmac
import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from taccuino.private_files import write_private
from taccuino.settings import Settings

from .asking import StorageQuestions
from .changes import ChangeFeed
from .configuration import ASKING, PROBE
from .kept import ALIVE_PATH, ASK_HEADER, AWAY, USER_HEADER, KeptAnswers, RelayError
from .kernel import CommandError, make_private_directory, run
from .listing_server import ListingServer

__all__ = ["RelayError", "StorageRelay", "relay_config"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 2.0
_END_SECONDS = 5.0
_CHANGED_SECONDS = 10
"""How long the storage itself is asked for what was changed here: longer than a listing proves
anything."""
_RESOLVE_SECONDS = 60.0
_ADDRESSES = 4
"""Of a storage with more addresses than this, the first ones are used."""
_PORTS = range(20_000, 32_000)
"""Below the kernel's own choice (ip_local_port_range), so that it is free after a restart."""
_FORWARD_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY")
"""Where the site's own proxy leads to the storage, rclone goes there itself."""


def relay_config(
    endpoint: str,
    addresses: tuple[str, ...],
    port: int,
    key: str,
    directory: Path,
    certificates: str | None = None,
) -> str:
    """HAProxy's configuration for a storage at these addresses.

    A storage that hangs is told from one that is slow by its answer to ``GET /``, which
    every S3 server gives at once, and be it 403. That is 2 x 4 s after 2 s;
    ``certificates`` is the file of the authorities to trust instead of the system's, and
    passwords are made with ``key`` (base64; see `password`). What the storage took is told
    to the daemon through a ring, which holds some thousand changes while none listens.
    """
    url = urlsplit(endpoint)
    secure = url.scheme == "https"
    target = url.port or (443 if secure else 80)
    trust = certificates or "@system-ca"
    tls = (
        f" ssl verify required ca-file {trust} sni str({url.hostname}) "
        f"verifyhost {url.hostname} check-sni {url.hostname}"
        if secure
        else ""
    )
    servers = "\n".join(
        f"    server storage{number} {f'[{address}]' if ':' in address else address}:{target}"
        f" check{tls}"
        for number, address in enumerate(addresses, 1)
    )
    return f"""\
global
    stats socket {directory}/admin.sock mode 600 level admin
    maxconn 4000
    hard-stop-after 30s

defaults
    mode http
    timeout connect 4s
    timeout client 1h
    timeout server 1h
    timeout http-request 30s
    retries 1
    default-server inter 1500ms fastinter 500ms downinter 1s fall 2 rise 1
    default-server on-marked-down shutdown-sessions

ring changes
    format raw
    maxlen 8192
    size 1048576
    timeout connect 4s
    timeout server 1h
    server daemon unix@{directory}/changes.sock log-proto octet-count

frontend rclone
    bind 127.0.0.1:{port}
    log ring@changes len 8192 local0
    log-format "%[var(txn.user)] %HM %ST %[var(txn.etag)] %[var(txn.target)]"
    http-request set-log-level silent if !{{ method PUT POST DELETE }}
    http-request set-var(txn.told) req.hdr(Proxy-Authorization),field(2,\\ ),b64dec
    http-request set-var(txn.user) var(txn.told),field(1,:)
    http-request set-var(txn.password) var(txn.told),field(2,:)
    acl proven var(txn.user),hmac(sha256,{key}),hex,lower,secure_memcmp(txn.password)
    http-request return status 407 if !proven
    http-request del-header Proxy-Authorization
    http-request set-uri %[pathq]
    http-request set-var(txn.target) pathq
    http-request set-header {USER_HEADER} %[var(txn.user)]
    http-response set-var(txn.etag) res.hdr(ETag)
    http-request set-var(txn.path) path
    http-request set-var(txn.key) var(txn.user),concat(" ",txn.path)
    http-request del-header {ASK_HEADER}
    http-request track-sc0 var(txn.key) table changed if {{ method PUT POST DELETE }}
    acl just_changed var(txn.key),in_table(changed)
    acl asks req.hdr(User-Agent) -m beg {ASKING}
    http-request set-header {ASK_HEADER} 1 if {{ method HEAD }} just_changed
    http-request set-header {ASK_HEADER} 1 if {{ method HEAD }} asks
    acl of_names method HEAD
    acl of_bucket path_reg ^/[^/]+/?$
    acl probes query -m sub {PROBE}
    use_backend listings if {{ method GET }} of_bucket {{ query -m sub delimiter= }} !probes
    use_backend kept if of_names
    use_backend kept if {{ method GET }} of_bucket !probes
    default_backend storage

backend changed
    stick-table type string len 512 size 100k expire {_CHANGED_SECONDS}s

backend listings
    option httpchk GET {ALIVE_PATH}
    option redispatch 1
    retries 2
    retry-on conn-failure empty-response
    timeout check 2s
    server daemon unix@{directory}/listings.sock check inter 500ms downinter 500ms rise 1 \
observe layer4 error-limit 1 on-error mark-down
    server none unix@{directory}/names.sock backup

frontend names
    bind unix@{directory}/names.sock mode 600
    default_backend kept

backend kept
    option httpchk GET {ALIVE_PATH}
    option redispatch 1
    retries 2
    retry-on conn-failure empty-response
    timeout check 2s
    server nginx unix@{directory}/kept.sock check inter 500ms downinter 500ms \
observe layer4 error-limit 1 on-error mark-down
    server none unix@{directory}/asked.sock backup

frontend asked
    bind unix@{directory}/asked.sock mode 600
    default_backend storage

backend storage
    balance leastconn
    http-request del-header {USER_HEADER}
    option httpchk GET / HTTP/1.1
    http-check send hdr Host {url.netloc}
    http-check expect rstatus ^[1-4]
    timeout check 4s
    http-request return status 504 content-type application/xml string "{AWAY}" \
if {{ nbsrv(storage) eq 0 }}
{servers}
"""


def password(key: str, slug: str) -> str:
    """What a user's rclone tells the relay, which computes it likewise."""
    return hmac.new(base64.b64decode(key), slug.encode(), "sha256").hexdigest()


class StorageRelay:
    """Keeps the relay running, and knows whether the storage answers.

    ``changed`` are called when it went away or came back.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self.available = True
        self.changed: list[Callable[[], None]] = []
        self._endpoint = settings.storage.endpoint or ""
        self._directory = settings.state_dir / "mount-plane/relay"
        self._certificates = environment.get("SSL_CERT_FILE")
        self._wanted = not any(environment.get(name) for name in _FORWARD_PROXIES)
        self.feed = ChangeFeed(self._directory / "changes.sock")
        self.questions = StorageQuestions(settings, self._directory / "names.sock")
        self.listings = ListingServer(self._directory / "listings.sock", self.questions)
        self._kept = KeptAnswers(self._directory)
        self._port = 0
        self._key = ""
        self._addresses: tuple[str, ...] = ()
        self._resolved = 0.0
        self._keeper: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is a relay: where the site has a proxy of its own, rclone uses that."""
        return self._wanted

    def proxy(self, slug: str) -> str | None:
        """The HTTP proxy that a user's rclone is told, if any; it has the password in it."""
        if not self._wanted:
            return None
        return f"http://{slug}:{password(self._key, slug)}@127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Take up the relay that an earlier daemon started, or start one.

        Raises
        ------
        RelayError
            If there is none and none can be started.
        """
        if not self._wanted:
            return
        make_private_directory(self._directory)
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = json.loads(self._state.read_text(encoding="utf-8"))
            self._port, self._key = int(state["port"]), str(state["key"])
        await self.feed.start()
        # Before HAProxy, which asks them from the beginning.
        await self.listings.start()
        await self._keep_answers()
        await self._ensure()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, *, leave: bool) -> None:
        """Stop looking after it; without ``leave`` it ends, for nothing needs it any more."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self.feed.stop()
        await self.listings.stop()
        await self.questions.close()
        if not leave and self._wanted:
            if await self._answer("show info"):
                self._signal(signal.SIGTERM)
            await asyncio.to_thread(self._kept.stop)

    async def look(self) -> None:
        """See how the storage is, start what is gone, and follow the storage's addresses."""
        status, keeps = await self._status()
        now = asyncio.get_running_loop().time()
        resolve = now - self._resolved > (_RESOLVE_SECONDS if self._addresses else 5.0)
        if status is None or resolve:
            await self._ensure()
            status, keeps = await self._status()
        if not keeps:
            await self._keep_answers()
        available = status == "UP"
        if available != self.available:
            self.available = available
            how = "answers again" if available else "does not answer"
            log.warning("the object storage at %s %s", self._endpoint, how)
            for tell in self.changed:
                tell()

    async def _keep(self) -> None:
        while True:
            try:
                await self.look()
            except (OSError, RelayError):
                log.exception("the relay to the object storage")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _keep_answers(self) -> None:
        """Have nginx run; without it the storage is asked directly, and nothing is kept."""
        try:
            await self._kept.ensure()
        except RelayError as error:
            log.warning("%s", error)

    async def _ensure(self) -> None:
        self._resolved = asyncio.get_running_loop().time()
        self._addresses = await self._resolve() or self._addresses
        runs = bool(await self._answer("show info"))
        taken = not runs and not _is_free(self._port)
        if taken and await asyncio.to_thread(self._end_silent):
            taken = not _is_free(self._port)
        if taken:
            self._port = next((port for port in _shuffled() if _is_free(port)), 0)
        if taken or not self._key:
            self._key = self._key or base64.b64encode(os.urandom(32)).decode()
            state = {"port": self._port, "key": self._key}
            write_private(self._state, json.dumps(state), synced=False)
        text = relay_config(
            self._endpoint,
            self._addresses,
            self._port,
            self._key,
            self._directory,
            self._certificates,
        )
        config = self._config
        same = config.exists() and config.read_text(encoding="utf-8") == text
        if runs and same:
            return
        write_private(config, text, synced=False)
        if runs:
            self._signal(signal.SIGUSR2)  # HAProxy: reload, with no connection lost
            return
        words = [_haproxy(), "-W", "-D", "-f", str(config), "-p", str(self._pid_file)]
        try:
            await asyncio.to_thread(run, *words, timeout=20.0)
        except CommandError as error:
            raise RelayError(f"the relay to the object storage: {error.output}") from error
        log.info("the relay to %s listens at port %d", self._endpoint, self._port)

    async def _resolve(self) -> tuple[str, ...]:
        url = urlsplit(self._endpoint)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                url.hostname, url.port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            log.warning("%s: %s", url.hostname, error)
            return ()
        return tuple(sorted({str(entry[4][0]) for entry in found}))[:_ADDRESSES]

    async def _status(self) -> tuple[str | None, bool]:
        """How HAProxy sees the storage (``UP``, ``DOWN``), and whether it reaches nginx.

        None and False if it does not answer.
        """
        text = await self._answer("show stat -1 6 -1")  # of all backends and their servers
        rows = csv.DictReader(text.lstrip("# ").splitlines())
        seen = {(row["pxname"], row["svname"]): row["status"] or "" for row in rows}
        keeps = seen.get(("kept", "nginx"), "").startswith("UP")
        return seen.get(("storage", "BACKEND")), keeps

    async def _answer(self, command: str) -> str:
        """What HAProxy's admin socket answers; empty if nothing listens there."""
        path = self._directory / "admin.sock"
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    writer.write(f"{command}\n".encode())
                    return (await reader.read()).decode()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return ""

    def _signal(self, number: signal.Signals) -> None:
        """Signal HAProxy's master, which the admin socket just proved to be running."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(self._pid_file.read_text(encoding="ascii")), number)

    def _end_silent(self) -> bool:
        """End a HAProxy of ours that does not answer; whether there was one. Blocking.

        With another one at another port each user's rclone would have to be started anew.
        """
        left = found = self._processes()
        if found:
            log.warning("the relay does not answer; it is ended, and started again")
        deadline = time.monotonic() + _END_SECONDS
        while left and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            left = self._processes()
        return bool(found)

    def _processes(self) -> list[int]:
        """HAProxy's master and its workers, which are of its group and may outlive it.

        A later process may have the number in the pid file, but not our configuration.
        """
        found: list[int] = []
        with contextlib.suppress(OSError, ValueError):
            master = int(self._pid_file.read_text(encoding="ascii"))
            for path in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (path / "cmdline").read_bytes().split(b"\0")
                    if bytes(self._config) in words and os.getpgid(int(path.name)) == master:
                        found.append(int(path.name))
        return found

    @property
    def _config(self) -> Path:
        return self._directory / "haproxy.cfg"

    @property
    def _state(self) -> Path:
        return self._directory / "relay.json"

    @property
    def _pid_file(self) -> Path:
        return self._directory / "pid"


def _haproxy() -> str:
    program = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RelayError("haproxy is not installed; on Debian: apt-get install haproxy")
    return program


def _shuffled() -> list[int]:
    start = int.from_bytes(os.urandom(2)) % len(_PORTS)
    return [*_PORTS[start:], *_PORTS[:start]]


def _is_free(port: int) -> bool:
    if not port:
        return False
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
