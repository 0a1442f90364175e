"""The agent over its real sockets: plain and encrypted clients, and the AWS endpoint."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_double import HubDouble

from taccuino.server.agent import CredentialsEndpoint, OidcAgent
from taccuino.server.hub_client import HubClient
from taccuino.server.ipc_encryption import EncryptionError, Session
from taccuino.server.launcher import _listen
from taccuino.server.sources import CredentialSource, TokenSource

ISSUER = "https://iam.example/"
END = 4_000_000_000  # the same in every process that collects the tests


@pytest.fixture
def oidc_sock(
    hub: HubDouble, client: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    token = {"access_token": "the-token", "issuer": ISSUER, "expires_at": END + 0.5}
    hub.answers["/token"] = (200, token)
    monkeypatch.chdir(tmp_path)  # socket paths are limited to 107 characters
    listener = _listen(socket.AF_UNIX, "oidc.sock")
    agent = OidcAgent("infncloud", TokenSource(client))
    threading.Thread(target=agent.serve, args=(listener,), daemon=True).start()
    return Path("oidc.sock")


def ask(path: Path, *parts: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        for part in parts:
            connection.sendall(part)
            time.sleep(0.01 if len(parts) > 1 else 0)
        return dict(json.loads(connection.recv(65536)))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            {"request": "access_token", "account": "infncloud", "min_valid_period": 60},
            {
                "status": "success",
                "access_token": "the-token",
                "issuer": ISSUER,
                "expires_at": END,
            },
        ),
        ({"request": "access_token", "issuer": "https://iam.example"}, {"status": "success"}),
        (
            {"request": "access_token", "issuer": "https://other"},
            {"error": "There is no profile"},
        ),
        ({"request": "access_token", "account": "x"}, {"error": "run 'oidc-token infncloud'"}),
        ({"request": "loaded_accounts"}, {"status": "success", "info": ["infncloud"]}),
        ({"request": "check"}, {"status": "success"}),
        ({"request": "status"}, {"status": "success"}),
        (
            {"request": "gen", "config": {}},
            {"status": "failure", "error": "nothing needs to be"},
        ),
        ({}, {"status": "failure"}),
    ],
)
def test_requests(oidc_sock: Path, request_: dict[str, Any], expected: dict[str, Any]) -> None:
    answer = ask(oidc_sock, json.dumps(request_).encode())
    for name, value in expected.items():
        assert value in answer[name] if name == "error" else value == answer[name]


def test_the_audience_and_the_period_reach_the_hub(hub: HubDouble, oidc_sock: Path) -> None:
    request = {"request": "access_token", "account": "infncloud", "audience": "storage"}
    ask(oidc_sock, json.dumps(request | {"min_valid_period": 2**40}).encode())
    ask(oidc_sock, json.dumps(request | {"min_valid_period": "x"}).encode())
    assert hub.asked("/token") == [
        {"min_valid_period": 86400, "audience": "storage"},
        {"min_valid_period": 0, "audience": "storage"},
    ]


def test_the_hubs_sentence_is_the_answer(hub: HubDouble, oidc_sock: Path) -> None:
    hub.answers["/token"] = (
        403,
        {"message": "Sign the usage policy.", "reason": "usage_policy"},
    )
    answer = ask(oidc_sock, b'{"request": "access_token", "account": "infncloud"}')
    assert answer == {"status": "failure", "error": "Sign the usage policy."}


def test_a_request_in_pieces(oidc_sock: Path) -> None:
    assert ask(oidc_sock, b'{"request": ', b'"check"}') == {"status": "success"}


@pytest.mark.parametrize("junk", [b"\x00\xff\xfe", b"[1]", b"A" * 43, b64encode(bytes(32))])
def test_junk_is_answered_and_harms_nobody(oidc_sock: Path, junk: bytes) -> None:
    answer = ask(oidc_sock, junk)
    assert answer["status"] == "failure"
    assert ask(oidc_sock, b'{"request": "check"}') == {"status": "success"}


def test_an_encrypted_session_is_what_libsodium_says() -> None:
    """The client's half of the protocol, by libsodium itself."""
    sodium = ctypes.CDLL("libsodium.so.23")
    public, secret, key = (ctypes.create_string_buffer(32) for _ in range(3))
    sodium.crypto_box_keypair(public, secret)
    session = Session(b64encode(public.raw))
    assert sodium.crypto_box_beforenm(key, b64decode(session.public_key), secret) == 0
    length, nonce, cipher = session.encrypt(b"the answer").split(b":")
    text = ctypes.create_string_buffer(10)
    box = b64decode(cipher)
    opened = sodium.crypto_secretbox_open_easy(
        text, box, ctypes.c_ulonglong(len(box)), b64decode(nonce), key
    )
    assert (opened, length, text.raw) == (0, b"10", b"the answer")
    assert session.decrypt(session.encrypt(b"")) == b""
    for forged in (b"5:aa:bb", b"no", session.encrypt(b"x")[:-4] + b"AAAA"):
        with pytest.raises(EncryptionError):
            session.decrypt(forged)


@pytest.mark.skipif(not shutil.which("oidc-token"), reason="Debian's oidc-agent-cli is missing")
@pytest.mark.parametrize(
    ("arguments", "output", "error"),
    [
        (["infncloud"], "the-token\n", ""),
        (["--all", "infncloud"], f"the-token\n{ISSUER}\n{END}\n", ""),
        (["--aud=storage", "--time=300", "infncloud"], "the-token\n", ""),
        ([ISSUER], "the-token\n", ""),
        (["other"], "", "run 'oidc-token infncloud'"),
    ],
)
def test_the_real_client(
    oidc_sock: Path, arguments: list[str], output: str, error: str
) -> None:
    done = subprocess.run(
        ["oidc-token", *arguments],
        env={**os.environ, "OIDC_SOCK": str(oidc_sock)},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.stdout == output
    assert error in done.stderr


@pytest.fixture
def endpoint(hub: HubDouble, client: HubClient) -> Iterator[str]:
    keys = {"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "token"}
    hub.answers["/credentials"] = (200, {**keys, "Expiration": "2099-01-01T00:00:00Z"})
    listener = _listen(socket.AF_INET, ("127.0.0.1", 0))
    server = CredentialsEndpoint(listener, "the-authorization", CredentialSource(client))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/credentials"
    server.shutdown()
    server.server_close()


def fetch(address: str, authorization: str | None, method: str = "GET") -> tuple[int, Any]:
    request = urllib.request.Request(address, method=method)
    if authorization is not None:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize(
    ("authorization", "path", "method", "status"),
    [
        ("the-authorization", "", "GET", 200),
        ("the-authorization", "?x=1", "GET", 200),
        (None, "", "GET", 403),
        ("wrong", "", "GET", 403),
        ("the-authorization ", "/more", "GET", 404),
        ("the-authorization", "", "DELETE", 404),
    ],
)
def test_the_credentials_endpoint(
    endpoint: str, authorization: str | None, path: str, method: str, status: int
) -> None:
    answer = fetch(endpoint + path, authorization, method)
    assert answer[0] == status
    assert ("SecretAccessKey" in answer[1]) == (status == 200)


def test_the_endpoint_says_why_not(hub: HubDouble, endpoint: str) -> None:
    hub.answers["/credentials"] = (
        403,
        {"message": "You are suspended.", "reason": "suspended"},
    )
    expected = {"code": "suspended", "message": "You are suspended."}
    assert fetch(endpoint, "the-authorization") == (403, expected)


def test_boto3_finds_the_endpoint(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import botocore.session

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-authorization")
    monkeypatch.setenv("HOME", "/nonexistent")
    found = botocore.session.Session().get_credentials()
    assert (found.method, found.get_frozen_credentials().token) == ("container-role", "token")
