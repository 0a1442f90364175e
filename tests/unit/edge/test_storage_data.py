"""The edge's path to the objects."""

from __future__ import annotations

import pytest

from taccuino.edge.routemap import route_key
from taccuino.edge.runtime import EdgeError
from taccuino.edge.storage_data import storage_data_backend
from taccuino.settings import Settings


def backend(endpoint: str, s3_backend: str | None = None) -> str:
    settings = Settings.parse({"storage": {"endpoint": endpoint}})
    return storage_data_backend(settings, s3_backend)


@pytest.mark.parametrize(
    ("endpoint", "server", "host"),
    [
        ("http://s3.example", "server s3 s3.example:80 resolvers hosts", "s3.example"),
        ("http://10.0.0.1:7480", "server s3 10.0.0.1:7480\n", "10.0.0.1:7480"),
        ("http://localhost:7480", "server s3 localhost:7480\n", "localhost:7480"),
        (
            "https://s3.example",
            (
                "server s3 s3.example:443 ssl verify required ca-file @system-ca "
                "verifyhost s3.example sni str(s3.example) resolvers hosts"
            ),
            "s3.example",
        ),
    ],
)
def test_anothers_storage(endpoint: str, server: str, host: str) -> None:
    text = backend(endpoint)
    assert server in text
    assert f"set-header Host {host}\n" in text


def test_the_embedded_storage_is_reached_behind_its_frontend() -> None:
    text = backend("http://localhost:8002", "127.0.0.1:8005")
    assert "server s3 127.0.0.1:8005\n" in text
    assert "set-header Host localhost:8002\n" in text
    assert "resolvers" not in text


def test_what_can_not_be_written_is_refused() -> None:
    with pytest.raises(EdgeError, match=r"storage\.endpoint"):
        backend("http://s3.example;:80")


def test_no_route_takes_the_path() -> None:
    for spec in ("/storage-data/", "/storage-data/user/", "/%73torage-data/"):
        with pytest.raises(EdgeError, match="keeps this path"):
            route_key(spec)
    assert route_key("/storage-data-2/") == "/storage-data-2/"
