"""When a user who is refused may expect room."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from taccuino.engines.admission import Shortage
from taccuino.hub.admission import Admission, NoRoom, expectation
from taccuino.settings import CullingSettings, Settings

SHORT = Shortage("memory", "There is no room.", by_stopping=True)


@pytest.mark.parametrize(
    ("short", "enabled", "idle_since", "said", "seconds"),
    [
        (SHORT, True, [1000.0, 900.0], "in about 25 minutes; there is room earlier", 1500),
        (SHORT, True, [-600.0], "in about a minute", 30),
        (SHORT, True, [-20_000.0], "in about a minute", 30),
        (SHORT, True, [9000.0], "in about 3 hours", 3600),
        (SHORT, True, [], "There is room again when somebody stops their server.", 60),
        (SHORT, False, [1000.0], "There is room again when somebody stops", 60),
        (Shortage("disk", "Full.", by_stopping=False), True, [1000.0], "", 3600),
    ],
)
def test_when(
    short: Shortage, enabled: bool, idle_since: list[float], said: str, seconds: int
) -> None:
    culling = CullingSettings(enabled=enabled, idle_seconds=3600)
    sentence, retry = expectation(short, culling, idle_since, 3000.0)
    assert said in sentence
    assert retry == seconds


def test_what_was_promised_counts(tmp_path) -> None:
    settings = Settings.parse({"state_dir": str(tmp_path), "admission": {"servers": 2}})

    def server(*, active: bool, pending: str | None = None, **more: object) -> SimpleNamespace:
        facts = {"mem_limit": None, "user_options": None, "ready": False, **more}
        return SimpleNamespace(active=active, pending=pending, **facts)

    running = server(active=True, mem_limit=1 << 30)
    waiting = server(active=True, pending="spawn", user_options={"memory": "4G"})
    stopped = server(active=False)
    users = [SimpleNamespace(spawners={"": one}) for one in (running, waiting, stopped)]
    admission = Admission(settings)
    demand = admission._demand([running, waiting], 2 << 30)
    assert (demand.servers, demand.limits, demand.starting) == (2, 5 << 30, 1)
    with pytest.raises(NoRoom) as caught:
        admission.check(users, 1 << 30)
    assert caught.value.status_code == 503
    assert caught.value.headers["Retry-After"] == "60"
    assert "It runs no more than 2" in caught.value.jupyterhub_message
    admission.check(users[1:], 1 << 30)
