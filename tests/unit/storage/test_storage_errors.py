"""What the storage's answers become, and that no secret gets into a text."""

from __future__ import annotations

import datetime as dt

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    ParamValidationError,
    ReadTimeoutError,
)

from taccuino.settings import Settings
from taccuino.storage.clients import StorageClients
from taccuino.storage.errors import StorageError, storage_error
from taccuino.storage.sts import Credentials


def answer(code: str, status: int) -> ClientError:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "Operation")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (answer("AccessDenied", 403), "denied"),
        (answer("Unknown", 403), "denied"),
        (answer("InvalidIdentityToken", 400), "denied"),
        (answer("ExpiredTokenException", 400), "expired_token"),
        (answer("BucketAlreadyExists", 409), "conflict"),
        (answer("SlowDown", 503), "unreachable"),
        (answer("", 502), "unreachable"),
        (answer("MalformedPolicyDocument", 400), "refused"),
        (EndpointConnectionError(endpoint_url="http://x"), "unreachable"),
        (ReadTimeoutError(endpoint_url="http://x"), "unreachable"),
        (ParamValidationError(report="bad"), "refused"),
    ],
)
def test_reasons(error: ClientError | BotoCoreError, reason: str) -> None:
    found = storage_error(error, "make a role", "http://s3:1")
    assert found.reason == reason
    assert "make a role" in str(found)
    assert "http://s3:1" in str(found)


def test_credentials_as_sdks_read_them() -> None:
    rome = dt.timezone(dt.timedelta(hours=2))
    end = dt.datetime(2030, 5, 1, 14, 0, 0, tzinfo=rome)
    credentials = Credentials("AK", "very secret", "token text", end)
    assert credentials.as_container_json() == {
        "AccessKeyId": "AK",
        "SecretAccessKey": "very secret",
        "Token": "token text",
        "Expiration": "2030-05-01T12:00:00Z",
    }
    assert "secret" not in repr(credentials)
    assert "token text" not in repr(credentials)


@pytest.mark.parametrize("content", [None, "", "[]", '{"access_key": "AK"}', '{"secret_key'])
def test_unusable_keys_are_named_and_not_shown(tmp_path, content: str | None) -> None:
    path = tmp_path / "admin.json"
    if content is not None:
        path.write_text(content)
    storage = {"endpoint": "http://127.0.0.1:1", "admin_credentials_file": str(path)}
    clients = StorageClients(Settings.parse({"storage": storage}))
    with pytest.raises(StorageError, match="admin_credentials_file") as caught:
        clients.s3()
    assert "AK" not in str(caught.value).replace(str(path), "")


def test_a_missing_endpoint_is_named() -> None:
    with pytest.raises(StorageError, match=r"storage\.endpoint"):
        StorageClients(Settings.parse({})).sts()
