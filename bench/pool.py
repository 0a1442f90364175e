"""The pool of warm servers, as ``/hub/metrics`` tells of it."""

from __future__ import annotations

import time

import requests

from support.instance import Instance


def wait_for_the_pool(instance: Instance, number: int = 2) -> None:
    """Until so many servers wait, or as many as there are to be."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        lines = requests.get(f"{instance.url}/hub/metrics", timeout=30).text.splitlines()
        names = ("taccuino_warm_servers{", "taccuino_warm_servers_wanted{")
        ready, wanted = (
            sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))
            for name in names
        )
        booting = any('state="booting"' in line and not line.endswith(" 0.0") for line in lines)
        if not booting and ready >= min(number, wanted) > 0:
            time.sleep(0.5)  # the refill's last work
            return
        time.sleep(0.3)
    raise AssertionError("the pool was not filled")
