"""Idle servers are stopped, with a warning; a running kernel never is."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hub_trial import wait_until

pytestmark = pytest.mark.integration


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()


def start(hub, name: str) -> str:
    hub.run_server(name)
    token = hub.directory / f"{name}.token"
    wait_until(token.exists, 10)
    return token.read_text()


def notices(hub, token: str) -> list[str]:
    answer = hub.api("GET", "/taccuino/servers/notices", token).json()
    return [notice["message"] for notice in answer["notices"]]


def test_an_idle_server_is_warned_and_stopped_but_a_busy_one_is_not(culling_hub):
    hub = culling_hub
    busy = {"kernels": [{"execution_state": "busy"}], "status": {"last_activity": ago(3600)}}
    hub.notebook_says(**busy)
    token = start(hub, "ida")
    # JupyterHub has seen no activity for longer than the limit; the kernel runs all the time.
    began = time.monotonic()
    wait_until(lambda: "GET /hub/api/taccuino/servers/ida/idle" in hub.log(), 30, hub.log)
    assert time.monotonic() - began >= 9, "the culler asks only about what looks idle"
    wait_until(lambda: hub.log().count("/servers/ida/idle") >= 3, 10, hub.log)
    assert hub.server("ida")["ready"], "a kernel runs"
    assert notices(hub, token) == []

    idle = {**busy, "kernels": [{"execution_state": "idle"}]}
    hub.notebook_says(**{**idle, "status": {"last_activity": ago(5)}})
    assert any("stops within a minute" in message for message in notices(hub, token))
    assert hub.server("ida")["ready"], "it was active 5 s ago, whatever was reported"

    hub.notebook_says(**{**idle, "status": {"last_activity": ago(11)}})
    wait_until(lambda: hub.server("ida") is None, 20, hub.log)


def test_a_server_that_does_not_answer_is_left_alone(culling_hub):
    hub = culling_hub
    hub.notebook_says(status={"nonsense": True}, kernels=[])
    start(hub, "nora")
    wait_until(lambda: hub.log().count("/servers/nora/idle") >= 2, 40, hub.log)
    assert hub.server("nora")["ready"]
