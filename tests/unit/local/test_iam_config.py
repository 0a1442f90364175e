"""canaille's configuration, the hub's client, and the key that signs."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography import x509
from joserfc.jwk import RSAKey

from taccuino.local.iam import (
    EMBEDDED_ADMIN_GROUP,
    SESSION_COOKIES,
    canaille_config,
    client_registration,
    iam_service,
    jwks_file,
    signing_key,
)
from taccuino.local.iam_keys import SigningKey
from taccuino.settings import Settings


def config(address: str = "http://localhost:8001") -> dict:
    return canaille_config(
        name="Notebooks",
        address=address,
        database=Path("/state/iam/canaille.sqlite"),
        secret_key="s",
        jwk={"kty": "RSA"},
        token_seconds=3600,
    )


@pytest.mark.parametrize(
    ("address", "server", "scheme", "forced"),
    [
        ("http://localhost:8001", "localhost:8001", "http", False),
        ("https://nb.example.org:8001", "nb.example.org:8001", "https", True),
    ],
)
def test_addresses(address: str, server: str, scheme: str, *, forced: bool) -> None:
    made = config(address)
    assert (made["SERVER_NAME"], made["PREFERRED_URL_SCHEME"]) == (server, scheme)
    assert made["CANAILLE"]["FORCE_HTTPS"] is forced
    assert made["SESSION_COOKIE_NAME"] == SESSION_COOKIES[0]


def test_registration_is_open_and_gives_no_power() -> None:
    canaille = config()["CANAILLE"]
    assert canaille["ENABLE_REGISTRATION"]
    access = canaille["ACL"]
    assert access["DEFAULT"]["PERMISSIONS"] == ["edit_self", "use_oidc"]
    assert not {"user_name", "groups"} & set(access["DEFAULT"]["WRITE"])
    assert access["ADMIN"]["FILTER"] == {"groups": EMBEDDED_ADMIN_GROUP}


def test_tokens_carry_the_accounts_name_and_consent_is_asked() -> None:
    oidc = config()["CANAILLE_OIDC"]
    assert oidc["USERINFO_MAPPING"]["PREFERRED_USERNAME"] == "{{ user.user_name }}"
    assert oidc["TRUSTED_DOMAINS"] == []


def test_the_hubs_client() -> None:
    client = client_registration(name="N", url="http://localhost:8000", secret="x")
    assert client["redirect_uris"] == ["http://localhost:8000/hub/oauth_callback"]
    assert "http://localhost:8000/hub/login" in client["post_logout_redirect_uris"]
    assert client["grant_types"] == ["authorization_code", "refresh_token"]
    assert client["id_token_signed_response_alg"] == "RS256"


def test_the_published_keys_hold_the_certificate_and_nothing_private() -> None:
    key = SigningKey.new("localhost")
    (published,) = key.jwks()["keys"]
    assert set(published) == {"kty", "n", "e", "kid", "use", "alg", "x5c"}
    der = base64.b64decode(published["x5c"][0])
    certificate = x509.load_der_x509_certificate(der)
    assert certificate.public_key() == RSAKey.import_key(published).public_key
    assert key.thumbprint == hashlib.sha1(der).hexdigest().upper()
    assert SigningKey.parse(key.text()) == key


def test_prepare_writes_the_keys_once(tmp_path: Path) -> None:
    local = {"iam_port": 8001, "iam_backend_port": 8002}
    settings = Settings.parse({"state_dir": str(tmp_path), "local": local})
    service = iam_service(settings)
    service.prepare()
    first = jwks_file(settings).read_text()
    service.prepare()
    assert jwks_file(settings).read_text() == first
    assert json.loads(first) == signing_key(settings).jwks()
    assert jwks_file(settings).stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "iam/signing-key.json").stat().st_mode & 0o777 == 0o600
    assert not service.ready(), "nothing listens"
    assert signing_key(settings).jwk["d"] not in str(service)
