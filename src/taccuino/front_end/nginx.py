"""The nginx that serves the exported files: its configuration as text, and how it is run.

It runs without privileges, reads one directory and knows nothing else. What it is asked for
comes compressed from the disk (``gzip_static``, ``brotli_static``) and may be kept for good, as
its address names its content.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from taccuino.errors import ServiceError
from taccuino.settings import Settings

from .catalogue import URL_PREFIX, directory

__all__ = ["HEALTH_PATH", "USER", "command", "nginx_config", "prepare"]

HEALTH_PATH = "/health"
USER = "nobody"
"""Whose rights it has."""
_BROTLI = Path("/usr/lib/nginx/modules/ngx_http_brotli_static_module.so")
_PICTURES = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
_TYPES = Path("/etc/nginx/mime.types")


def nginx_config(root: Path, port: int, *, brotli: bool) -> str:
    """The configuration; ``root`` is the directory with ``static`` in it.

    With ``brotli`` nginx has the module that serves ``.br``. An image's picture that is opened
    as a page (SVG) may not run scripts at the service's origin.
    """
    return f"""\
{f"load_module {_BROTLI};" if brotli else ""}
daemon off;
# One process, which keeps its command line and environment: the supervisor knows it by these.
master_process off;
pid {root}/run/nginx.pid;
error_log stderr error;
events {{ worker_connections 2000; }}

http {{
    access_log off;
    server_tokens off;
    include {_TYPES};
    default_type application/octet-stream;
    charset utf-8;
    charset_types text/css text/plain application/javascript application/json;
    client_body_temp_path {root}/run;
    proxy_temp_path {root}/run;
    fastcgi_temp_path {root}/run;
    scgi_temp_path {root}/run;
    uwsgi_temp_path {root}/run;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 60s;
    gzip_static on;
    gzip_vary on;
    {"brotli_static on;" if brotli else ""}

    server {{
        listen 127.0.0.1:{port};
        root {root};
        disable_symlinks on from={root};
        location = {HEALTH_PATH} {{
            return 200;
        }}
        location / {{
            return 404;
        }}
        location ~ "^{URL_PREFIX}[0-9a-f]{{32}}/[^.].*[.](svg|xml)$" {{
            limit_except GET {{ deny all; }}
            add_header Cache-Control "public, max-age=31536000, immutable";
            add_header Content-Security-Policy "{_PICTURES}";
        }}
        location ~ "^{URL_PREFIX}[0-9a-f]{{32}}/[^.]" {{
            limit_except GET {{ deny all; }}
            add_header Cache-Control "public, max-age=31536000, immutable";
        }}
    }}
}}
"""


def config_path(settings: Settings) -> Path:
    """Where nginx's configuration lies."""
    return directory(settings) / "nginx.conf"


def prepare(settings: Settings) -> None:
    """Write what nginx reads, and make what it writes to its own user's."""
    assert settings.local.front_end_port is not None
    root = directory(settings)
    for name in ("static", "run"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(0o711)
    if os.geteuid() == 0:
        account = pwd.getpwnam(USER)
        os.chown(root / "run", account.pw_uid, account.pw_gid)
    text = nginx_config(root, settings.local.front_end_port, brotli=_BROTLI.exists())
    config_path(settings).write_text(text, encoding="utf-8")
    config_path(settings).chmod(0o644)


def command(settings: Settings) -> tuple[str, ...]:
    """The command that runs nginx in the foreground; to be run as `USER`.

    Raises
    ------
    ServiceError
        If nginx is not installed.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise ServiceError("nginx is not installed; on Debian: apt-get install nginx")
    return (program, "-c", str(config_path(settings)), "-e", "stderr")
