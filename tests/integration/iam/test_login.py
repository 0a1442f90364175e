"""Logins, gates and refreshes in a real hub against a real provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hub_process import Hub, Provider, a_hub

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def hub(provider: Provider) -> Iterator[Hub]:
    yield from a_hub(
        provider, allowed_groups=["/naas"], admin_groups=["admins"], refresh_seconds=10
    )


def test_a_member_logs_in(hub: Hub):
    page = hub.browser().log_in("alice")
    assert page.status_code == 200, hub.read_log()[-3000:]
    assert page.url == f"{hub.url}/hub/home"
    assert "alice" in page.text
