"""The storage pages of a running service, with folders that no other test has."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from support.instance import Instance
from support.storage_pages import StoragePages
from taccuino.storage import StorageClients


@pytest.fixture(scope="session")
def alice(instance: Instance) -> StoragePages:
    """Alice, at the pages; her bucket keeps versions."""
    return _at_the_pages(instance, "alice")


@pytest.fixture(scope="session")
def bruno(instance: Instance) -> StoragePages:
    """Bruno, at the pages."""
    return _at_the_pages(instance, "bruno")


def _at_the_pages(instance: Instance, username: str) -> StoragePages:
    pages = StoragePages(instance.person(username))
    pages.ok("GET", "list", bucket=username)  # makes the bucket
    return pages


@pytest.fixture
def folder(alice: StoragePages) -> Iterator[str]:
    """A folder of Alice's own bucket that is empty now, and gone in the end."""
    key = f"pages-{secrets.token_hex(4)}/"
    yield key
    alice.ok("POST", "delete", {"bucket": alice.bucket, "keys": [key]})


@pytest.fixture
def admin_s3(instance: Instance):
    """S3 with the administrator's keys."""
    return StorageClients(instance.settings).s3()
