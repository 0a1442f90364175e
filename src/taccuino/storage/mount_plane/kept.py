"""The last good answers of the object storage: while it is away, and where they are proven.

A small nginx stands between the relay and the storage for what is asked of names: listings
and HEAD. It asks the storage each time and keeps what it answers; only where no answer comes
is the kept one given. So directories can be listed and cached files opened while the storage
is away, with the sizes and times that they had: rclone alone answers EIO once its listing is
older than ``directory_cache_seconds``, and, without an object's HEAD, takes it for another
one and drops what it holds of it. Objects' contents, uploads and deletions do not pass here.

An object's HEAD is given without asking where a listing of the last seconds shows the object
as it was (``names.lua``): rclone asks for each file of a directory that it has just listed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from pathlib import Path

from taccuino.errors import ServiceError
from taccuino.private_files import write_private

from .kernel import CommandError, make_private_directory, run

__all__ = [
    "ALIVE_PATH",
    "ASK_HEADER",
    "AWAY",
    "USER_HEADER",
    "KeptAnswers",
    "RelayError",
    "kept_config",
]

log = logging.getLogger(__name__)

ALIVE_PATH = "/-/"
"""What nginx answers itself; no bucket has so short a name."""
USER_HEADER = "X-Taccuino-User"
"""Whose question it is: what one user was answered is given to no other."""
ASK_HEADER = "X-Taccuino-Ask"
"""Tells that what is kept is not asked for: this node has just changed the object, or something
is decided by the answer."""
_PROVEN_SECONDS = 5
"""How long a listing proves what is kept of its objects."""
_LUA = "ngx_http_lua_module.so"
_MODULES = Path("/usr/lib/nginx/modules")
AWAY = (
    "<Error><Code>StorageAway</Code>"
    "<Message>the object storage can't be reached</Message></Error>"
)


class RelayError(ServiceError):
    """The relay could not be started, or does not answer."""


def kept_config(directory: Path, *, lua: bool) -> str:
    """The configuration of nginx; ``directory`` holds its sockets and what it keeps.

    Without ``lua``, the module, the storage is asked for every HEAD.

    The URI goes on as it came, since it is signed. ``Date`` is not given with what was kept:
    the AWS SDK sets its clock by it. An answer that takes longer than rclone waits
    (``--timeout=15s``) is none.
    """
    variable = USER_HEADER.lower().replace("-", "_")
    modules = (
        f"load_module {_MODULES}/ndk_http_module.so;\nload_module {_MODULES}/{_LUA};"
        if lua
        else ""
    )
    shared = (
        f"""
    lua_package_path "{Path(__file__).parent}/?.lua;;";
    lua_shared_dict listed 32m;
    lua_shared_dict answered 32m;
    init_by_lua_block {{ names = require "names" }}
"""
        if lua
        else ""
    )
    noted = (
        f"""
            set_by_lua_block $ask {{ return names.ask() }}
            header_filter_by_lua_block {{ names.header() }}
            body_filter_by_lua_block {{ names.body({_PROVEN_SECONDS}) }}
"""
        if lua
        else "set $ask 1;"
    )
    return f"""\
{modules}
user root;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log crit;
worker_processes 1;
worker_rlimit_nofile 8192;
events {{ worker_connections 4000; }}

http {{
    access_log off;
    server_tokens off;
    default_type application/xml;
    merge_slashes off;
    large_client_header_buffers 4 64k;
    client_body_temp_path {directory}/kept-bodies;
    proxy_temp_path {directory}/kept-bodies;
    fastcgi_temp_path {directory}/kept-bodies;
    scgi_temp_path {directory}/kept-bodies;
    uwsgi_temp_path {directory}/kept-bodies;

    proxy_cache_path {directory}/kept levels=2 keys_zone=kept:40m max_size=1g inactive=7d
        use_temp_path=off;
    proxy_cache kept;
    proxy_cache_key "$http_{variable} $request_method $http_host $request_uri";
    proxy_cache_valid 200 7d;
    proxy_cache_methods GET HEAD;
    proxy_cache_convert_head off;
    proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Buffering
        X-Accel-Charset X-Accel-Expires X-Accel-Limit-Rate X-Accel-Redirect;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_set_header {USER_HEADER} "";
    proxy_set_header {ASK_HEADER} "";
{shared}
    proxy_buffer_size 16k;
    proxy_buffers 16 16k;
    proxy_read_timeout 12s;

    upstream storage {{
        server unix:{directory}/asked.sock;
        keepalive 32;
    }}
    server {{
        listen unix:{directory}/kept.sock;
        location / {{
            proxy_pass http://storage;
            proxy_pass_header Date;
            proxy_pass_header Server;
            {noted}
            proxy_cache_bypass $ask;
            proxy_intercept_errors on;
            error_page 502 503 504 = @kept;
        }}
        location @kept {{
            proxy_pass http://unix:{directory}/nothing.sock;
        }}
        location = {ALIVE_PATH} {{
            return 204;
        }}
    }}
    server {{
        listen unix:{directory}/nothing.sock;
        return 504 "{AWAY}";
    }}
}}
"""


class KeptAnswers:
    """Keeps nginx running. It outlives the daemon, as HAProxy does."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def ensure(self) -> None:
        """Start nginx if it does not answer; whatever is left of an earlier one is ended.

        Raises
        ------
        RelayError
            If it can't be started.
        """
        text = kept_config(self._directory, lua=(_MODULES / _LUA).exists())
        config = self._directory / "nginx.conf"
        same = config.exists() and config.read_text(encoding="utf-8") == text
        if same and await self._answers():
            return
        make_private_directory(self._directory / "kept")
        write_private(config, text, synced=False)
        try:
            await asyncio.to_thread(self._start, config)
        except CommandError as error:
            raise RelayError(f"what the storage answered is not kept: {error}") from error

    def stop(self) -> None:
        """End it, and what it started; blocking, but for no longer than a signal takes."""
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, config: Path) -> None:
        self.stop()
        for name in ("kept.sock", "nothing.sock"):
            (self._directory / name).unlink(missing_ok=True)  # of one that was killed
        run(_nginx(), "-c", config, "-e", self._directory / "nginx.log", timeout=20.0)
        log.info("nginx keeps what the object storage answers")

    def _left(self) -> list[int]:
        """Nginx's processes, also those whose master was killed: they are of its group."""
        try:
            master = int((self._directory / "nginx.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return []
        return [pid for pid in _processes() if _name_and_group(pid) == ("nginx", master)]

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_unix_connection(
                    self._directory / "kept.sock"
                )
                try:
                    writer.write(f"GET {ALIVE_PATH} HTTP/1.0\r\n\r\n".encode())
                    return b" 204 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _name_and_group(pid: int) -> tuple[str, int] | None:
    """A process's name and process group (proc_pid_stat(5))."""
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        return before.partition("(")[2], int(after.split()[2])
    except (OSError, ValueError, IndexError):
        return None


def _nginx() -> str:
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RelayError("nginx is not installed; on Debian: apt-get install nginx")
    return program
