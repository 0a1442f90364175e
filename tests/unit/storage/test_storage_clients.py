"""boto3's clients: one session, and everybody their own keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from taccuino.settings import Settings
from taccuino.storage.clients import s3_client
from taccuino.storage.errors import StorageError


def test_each_client_has_its_own_keys() -> None:
    """Also of those that are made at once."""
    settings = Settings.parse({"storage": {"endpoint": "http://localhost:1"}})

    def link(key: str) -> str:
        client = s3_client(settings, key, "secret", f"token-{key}")
        return str(client.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"}))

    keys = [f"key{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for key, found in zip(keys, threads.map(link, keys), strict=True):
            assert f"{key}%2F" in found
            assert f"token-{key}" in found


def test_without_an_endpoint_the_setting_is_named() -> None:
    with pytest.raises(StorageError, match=r"storage\.endpoint"):
        s3_client(Settings(), "key", "secret")
