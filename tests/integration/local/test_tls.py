"""The whole service behind TLS, with a certificate that no image knows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import requests

from support.instance import new_instance
from support.notebook import Notebook

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", chain),
        ],
        check=True,
        capture_output=True,
    )
    both = folder / "certificate.pem"
    both.write_text(chain.read_text() + key.read_text())
    return both


def test_a_server_behind_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with new_instance(f'[edge]\ncertificate = "{certificate}"\n') as instance:
        assert instance.url.startswith("https://")
        assert instance.status["ready"]
        person = instance.person("alice")
        page = person.login()
        assert page.status_code == 200
        cookies = [c for c in person.http.cookies if c.name.startswith("jupyterhub")]
        assert cookies
        assert all(cookie.secure for cookie in cookies)
        events = person.start(image="base")
        assert events[-1].get("ready"), events
        with Notebook(person) as notebook:
            assert notebook.shell("oidc-token infncloud").count(".") == 2
            written = notebook.shell(
                "echo tls > cloud_storage/alice/t && cat cloud_storage/alice/t"
            )
            assert written == "tls\n"
        person.stop()
        # The port for servers is for servers alone.
        port = instance.settings.edge.server_port
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://localhost:{port}/hub/api/", timeout=5)
