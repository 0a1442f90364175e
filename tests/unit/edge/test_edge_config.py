"""HAProxy's configuration: what is in it for which settings, and that HAProxy takes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from taccuino.edge import EdgeError, edge_command, haproxy_config, prepare
from taccuino.settings import Settings

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
EMBEDDED = {
    "iam_port": 8001,
    "iam_backend_port": 18001,
    "s3_port": 8002,
    "s3_backend_port": 18002,
}
BACKENDS = {"iam_backend": "127.0.0.1:18001", "s3_backend": "127.0.0.1:18002"}


def settings(state: Path | str = "/srv/taccuino", **changes: Any) -> Settings:
    return Settings.parse({"state_dir": str(state), "hub": {"port": 18000}, **changes})


def section(text: str, title: str) -> str:
    """One section's lines."""
    _, _, rest = text.partition(f"\n{title}")
    return rest.partition("\n\n")[0]


EXTERNAL: dict[str, Any] = {
    "iam": {"issuer": "https://iam.example.org/", "client_id": "x"},
    "storage": {"endpoint": "https://s3.example.org"},
}
TLS = {"edge": {"certificate": "/etc/ssl/taccuino.pem"}}


@pytest.mark.parametrize(
    ("number", "changes", "backends", "present", "absent"),
    [
        (
            1,
            {},
            {},
            ["bind *:8000\n", "server hub 127.0.0.1:18000", "maxconn 4000"],
            [
                "ssl crt",
                "ssl-default",
                "frontend iam",
                "frontend s3",
                "Strict-Transport",
                "chroot",
            ],
        ),
        (
            2,
            {"local": EMBEDDED},
            BACKENDS,
            ["bind *:8001\n", "server iam 127.0.0.1:18001", "bind *:8002\n"],
            ["jwks.json"],
        ),
        (
            3,
            {**TLS, **EXTERNAL, "port": 443},
            {},
            [
                "bind *:443 ssl crt /etc/ssl/taccuino.pem alpn h2,http/1.1",
                "Strict-Transport-Security max-age=31536000",
                "ssl-min-ver TLSv1.2",
            ],
            [],
        ),
        # The IAM beside it speaks plain HTTP: HSTS would lock browsers out of it.
        (
            4,
            {
                **TLS,
                "local": EMBEDDED,
                "iam": {"issuer": "http://localhost:8001", "client_id": "x"},
                "storage": {"endpoint": "http://localhost:8002"},
            },
            BACKENDS,
            ["bind *:8000 ssl crt", "bind *:8001\n", "bind *:8002\n"],
            ["Strict-Transport"],
        ),
        # So it would where a site's own edge does not serve the IAM itself.
        (
            11,
            {**TLS, "iam": {"issuer": "http://localhost:8001", "client_id": "x"}},
            {},
            ["bind *:8000 ssl crt"],
            ["Strict-Transport"],
        ),
        (
            5,
            {
                **TLS,
                "local": EMBEDDED,
                "iam": {"issuer": "https://localhost:8001", "client_id": "x"},
                "storage": {"endpoint": "https://localhost:8002"},
            },
            BACKENDS,
            ["bind *:8001 ssl crt", "bind *:8002 ssl crt", "Strict-Transport"],
            [],
        ),
        (6, {"edge": {"bind": "::1"}}, {}, ["bind [::1]:8000\n"], []),
        (7, {"edge": {"bind": "10.0.0.1"}}, {}, ["bind 10.0.0.1:8000\n"], []),
        (8, {"edge": {"login_rate": 0}}, {}, [], ["stick-table", "429"]),
        (9, {"edge": {"login_rate": 30}}, {}, ["sc_http_req_rate(0) gt 30"], []),
        (10, {"edge": {"max_connections": 128}}, {}, ["maxconn 128"], []),
    ],
)
def test_options(
    number: int,
    changes: dict[str, Any],
    backends: dict[str, Any],
    present: list[str],
    absent: list[str],
) -> None:
    text = haproxy_config(settings(**changes), **backends)
    assert [words for words in present if words not in text] == []
    assert [words for words in absent if words in text] == []


def test_static_files_are_asked_for_without_the_user() -> None:
    text = haproxy_config(settings(local={"front_end_port": 18009}))
    service = section(text, "frontend service ")
    assert service.index("use_backend front-end") < service.index("use_backend servers")
    backend = section(text, "backend front-end ")
    assert "server front-end 127.0.0.1:18009" in backend
    for header in ("Cookie", "Authorization"):
        assert f"http-request del-header {header}\n" in backend
    assert "front-end" not in haproxy_config(settings())


def test_object_storage_is_passed_as_it_came() -> None:
    text = haproxy_config(settings(local=EMBEDDED), **BACKENDS)
    for title in ("frontend s3 ", "backend s3 "):
        lines = section(text, title)
        assert lines
        # Expect is answered by the edge itself; SigV4 never covers it.
        assert "header" not in lines.replace("del-header Expect", "")
        assert "compression" not in lines


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"hub": {}}, "hub.port"),
        ({"state_dir": "/srv/with space"}, "edge.admin_socket"),
        ({"edge": {"routes_file": "/srv/a;b"}}, "edge.routes_file"),
        ({"edge": {"routes_file": "/srv/x\n    daemon"}}, "edge.routes_file"),
        ({"edge": {"certificate": "cert with space.pem"}}, "edge.certificate"),
    ],
)
def test_what_cannot_be_written_is_named(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(EdgeError, match=key):
        haproxy_config(settings(**changes))


def test_https_without_a_certificate() -> None:
    iam = {"issuer": "https://localhost:8001", "client_id": "x"}
    with pytest.raises(EdgeError, match=r"edge\.certificate"):
        haproxy_config(settings(local=EMBEDDED, iam=iam), **BACKENDS)


@needs_haproxy
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("embedded", [False, True])
def test_haproxy_takes_it(tmp_path: Path, tls: bool, embedded: bool) -> None:
    changes: dict[str, Any] = {"local": EMBEDDED} if embedded else {}
    if tls:
        key_and_chain = tmp_path / "tls.pem"
        make = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ]
        make += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
        make += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "chain.pem")]
        subprocess.run(make, check=True, capture_output=True)
        parts = [(tmp_path / name).read_text() for name in ("chain.pem", "key.pem")]
        key_and_chain.write_text("".join(parts))
        changes["edge"] = {"certificate": str(key_and_chain)}
    if embedded:
        (tmp_path / "iam").mkdir()
        (tmp_path / "iam/jwks.json").write_text('{"keys": []}')
    resolved = settings(tmp_path, **changes)
    assert prepare(resolved)
    config = edge_command(resolved)[-1]
    checked = subprocess.run([str(HAPROXY), "-c", "-f", config], capture_output=True, text=True)
    assert checked.returncode == 0
    assert "WARNING" not in checked.stderr
    assert not prepare(resolved)


@needs_haproxy
def test_a_configuration_that_haproxy_refuses_is_not_installed(tmp_path: Path) -> None:
    resolved = settings(tmp_path)
    prepare(resolved)
    before = Path(edge_command(resolved)[-1]).read_text()
    resolved.edge.certificate = tmp_path / "absent.pem"
    with pytest.raises(EdgeError, match=r"absent\.pem"):
        prepare(resolved)
    assert Path(edge_command(resolved)[-1]).read_text() == before


@needs_haproxy
def test_newer_keys_ask_for_a_reload(tmp_path: Path) -> None:
    (tmp_path / "iam").mkdir()
    keys = tmp_path / "iam/jwks.json"
    keys.write_text('{"keys": []}')
    resolved = settings(tmp_path, local=EMBEDDED)
    assert prepare(resolved)
    assert not prepare(resolved)
    keys.write_text('{"keys": [{}]}')
    assert prepare(resolved)
    assert not prepare(resolved)


def test_more_connections_than_open_files(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="max_connections"):
        prepare(settings(tmp_path, edge={"max_connections": 2**40}))


def test_with_tls_servers_have_a_port_of_their_own() -> None:
    edge = {"certificate": "/etc/cert.pem", "server_port": 8007}
    lines = section(haproxy_config(settings(edge=edge, port=8000)), "frontend service ")
    assert "bind *:8007\n" in lines
    assert "reject if for_servers !{ src 10." in lines
    plain = haproxy_config(settings(edge={"server_port": 8007}))
    assert "8007" not in plain
