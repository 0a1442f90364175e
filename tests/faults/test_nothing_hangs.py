"""With the object storage away, what is here can be used, and what is not fails in time.

In a real container on the real object storage, for each way in which it can be away: listing
and reading what is cached, saving, reading what is not cached, the kernel, the Files view and
the banner, each with its time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from support import prober
from support.ground import Ground, until
from support.instance import Instance
from support.notebook import Notebook
from support.reliability import EVERY, write_times

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(600)]

AT_ONCE = 2.0  # seconds, on a busy machine
UNCACHED = 20.0
NOTICED = 12.0
"""Until the node has noticed, what asks the storage waits for it."""
BANNER = 20.0
STALE = 15.0

times: dict[str, dict[str, float]] = {}


@contextlib.contextmanager
def refusing(ground: Ground) -> Iterator[None]:
    """Connections are refused."""
    with ground.instance.without("radosgw"):
        yield


@contextlib.contextmanager
def hanging(ground: Ground) -> Iterator[None]:
    """Connections are taken and nothing is answered."""
    with ground.instance.hanging("radosgw"):
        yield


@contextlib.contextmanager
def dropping(ground: Ground) -> Iterator[None]:
    """Packets vanish, also those of connections that are open."""
    port = ground.settings.local.s3_port
    table = f"taccuino_test_{port}"
    rules = (
        f"table inet {table} {{ chain input {{ type filter hook input priority -200; "
        f"tcp dport {port} drop; tcp sport {port} drop; }}; }}"
    )
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)


WAYS: dict[str, Callable[[Ground], AbstractContextManager[None]]] = {
    "refuses connections": refusing,
    "hangs": hanging,
    "network drops packets": dropping,
}


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """The times, where a file for them is named."""
    yield
    if times and (file := os.environ.get("TACCUINO_FAULT_TABLE")):
        write_times(Path(file), times)


@pytest.fixture
def ground(instance: Instance) -> Iterator[Ground]:
    """Alice's server runs."""
    ground = Ground(instance, "alice", time.time_ns() % 10**6)
    instance.wait_until_ready()
    ground.person.stop()
    ground.start_server()
    yield ground
    ground.close()
    ground.person.stop()


def _begin(ground: Ground, probes: dict[str, str]) -> subprocess.Popen[bytes]:
    """Run `support.prober` in the container."""
    program = Path(prober.__file__).read_text(encoding="utf-8")
    return ground.execute(
        "python3", "-c", program, *(f"{name}={what}" for name, what in probes.items())
    )


def _result(process: subprocess.Popen[bytes]) -> dict[str, tuple[float, str]]:
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def _run(ground: Ground, **probes: str) -> dict[str, tuple[float, str]]:
    return _result(_begin(ground, probes))


def _banner(ground: Ground) -> str:
    answer = ground.person.api("GET", "/user/alice/taccuino/notices")
    return " ".join(told["message"] for told in answer.json()["notices"] if told["banner"])


@pytest.mark.parametrize("way", WAYS if EVERY else ["refuses connections", "hangs"])
def test_what_is_here_can_be_used(ground: Ground, way: str) -> None:
    root = f"/workarea/cloud_storage/alice/{ground.name}"
    s3, bucket, prefix = ground.users_s3(), ground.bucket, ground.name
    for name in ("cached", "uncached", "folder/deep"):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=name.encode() * 1000)
    here = {"listed": f"list:{root}", "cached": f"read:{root}/cached"}
    until(lambda: _run(ground, **here)["cached"][1] == "6000 bytes", 20)
    row = times.setdefault(way, {})
    with Notebook(ground.person) as notebook, WAYS[way](ground):
        began = time.monotonic()
        away = {"uncached": f"read:{root}/uncached", "deep": f"list:{root}/folder"}
        hidden = _begin(ground, away)
        found = _run(ground, **here)
        row["first listing"] = found["listed"][0]
        assert max(seconds for seconds, _ in found.values()) < NOTICED, found
        until(lambda: "can't be reached" in _banner(ground), BANNER, lambda: _banner(ground))
        row["banner"] = time.monotonic() - began
        until(lambda: time.monotonic() - began > STALE, 60)  # nothing listed is fresh by now
        found = _run(ground, **here)
        assert found["listed"][1] == "3 entries", found
        assert found["cached"][1] == "6000 bytes", found
        row["listing"], row["cached read"] = found["listed"][0], found["cached"][0]
        row["kernel"] = _seconds(lambda: notebook.run("print(1)"))
        row["Files view"] = _seconds(lambda: ground.contents(f"cloud_storage/alice/{prefix}"))
        row["another folder"] = _seconds(lambda: ground.contents("local"))
        saved = _run(ground, saved=f"write:{root}/meanwhile")["saved"]
        assert saved[1] == "saved", saved
        row["save"] = saved[0]
        found = _result(hidden)
        for name in ("uncached", "deep"):
            assert found[name][1].startswith("error"), found
            assert found[name][0] < UNCACHED, found
        row["uncached read fails"] = found["uncached"][0]
        row["uncached listing fails"] = found["deep"][0]

        until(lambda: "1 saved file" in _banner(ground), BANNER, lambda: _banner(ground))
        at_once = ("listing", "cached read", "kernel", "Files view", "another folder", "save")
        for name in at_once:
            assert row[name] < AT_ONCE, row
    began = time.monotonic()
    until(lambda: ground.pending() == 0, 60, ground.status)
    row["uploaded after the end"] = time.monotonic() - began
    until(lambda: not _banner(ground), 60, lambda: _banner(ground))
    row["banner gone after the end"] = time.monotonic() - began
    body = s3.get_object(Bucket=bucket, Key=f"{prefix}/meanwhile")["Body"].read()
    assert body == b"written while the storage was away"
    assert _run(ground, uncached=f"read:{root}/uncached")["uncached"][1] == "8000 bytes"


def _seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began
