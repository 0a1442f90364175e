"""nginx's configuration, as nginx itself reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from taccuino.front_end.nginx import nginx_config

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
BROTLI = Path("/usr/lib/nginx/modules/ngx_http_brotli_static_module.so")


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("brotli", [False, True])
def test_nginx_takes_it(tmp_path: Path, brotli: bool) -> None:
    if brotli and not BROTLI.exists():
        pytest.skip("Debian's libnginx-mod-http-brotli-static is missing")
    for name in ("static", "run"):
        (tmp_path / name).mkdir()
    config = tmp_path / "nginx.conf"
    config.write_text(nginx_config(tmp_path, 18009, brotli=brotli))
    command = [str(NGINX), "-t", "-c", str(config), "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_what_it_serves_is_kept_for_good_and_nothing_else_is_served() -> None:
    text = nginx_config(Path("/srv/front-end"), 18009, brotli=False)
    assert "listen 127.0.0.1:18009;" in text
    assert text.count("immutable") == text.count("limit_except GET { deny all; }") == 2
    assert "autoindex" not in text
    assert "load_module" not in text
