"""The provider of the unit tests, for a real hub."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hub_process import Provider


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider
