from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hub_double import HubDouble

from taccuino.server.hub_client import HubClient


@pytest.fixture
def hub() -> Iterator[HubDouble]:
    double = HubDouble()
    yield double
    double.close()


@pytest.fixture
def client(hub: HubDouble) -> HubClient:
    return HubClient(hub.url, "server-token")
