"""A start that the node has no room for, by API, page and link, on real JupyterHub."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hub_trial import wait_until

pytestmark = pytest.mark.integration

SAID = "There is no room for another server on this machine. It runs no more than 2 at"


def test_without_room_a_start_is_refused_at_once(small_hub):
    small_hub.run_server("ada")
    small_hub.run_server("ben")
    small_hub.api("POST", "/users/cleo")
    answer = small_hub.api("POST", "/users/cleo/server", json={"memory": "1G"})
    assert answer.status_code == 503
    assert answer.json()["message"].startswith(SAID)
    assert "is stopped in about 60 minutes" in answer.json()["message"]
    assert 3000 < int(answer.headers["Retry-After"]) <= 3600
    assert small_hub.server("cleo") is None
    metrics = requests.get(f"{small_hub.url}/metrics", timeout=10).text
    assert 'taccuino_admission_refusals_total{cause="servers"} 1.0' in metrics
    assert 'taccuino_node_free{resource="servers"} 0.0' in metrics
    # What is not on offer is refused as such, room or not.
    assert small_hub.api("POST", "/users/cleo/server", json={"image": "x"}).status_code == 400


def test_the_page_says_so_and_keeps_the_choice(small_hub):
    browser = small_hub.browser("cleo")
    page = browser.get(f"{small_hub.url}/spawn", timeout=10).text
    token = re.search(r'name="_xsrf" value="([^"]+)"', page)[1]
    form = {"image": "base", "cpu": "2", "memory": "4G", "interface": "lab", "_xsrf": token}
    answer = browser.post(f"{small_hub.url}/spawn", data=form, timeout=10)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 3000
    alert = re.search(r'role="alert"[^>]*>([^<]+)<', answer.text)[1]
    assert alert.strip().startswith(SAID)
    link = browser.get(f"{small_hub.url}/spawn?memory=1G", timeout=10)
    assert link.status_code == 503
    assert SAID in link.text


def test_there_is_room_again(small_hub):
    small_hub.stop_server("ben")
    small_hub.run_server("cleo", memory="1G")
    small_hub.stop_server("cleo")
    small_hub.stop_server("ada")


def test_of_many_at_once_no_more_are_let_in_than_there_is_room_for(small_hub):
    names = [f"crowd{number}" for number in range(8)]
    for name in names:
        small_hub.api("POST", f"/users/{name}")

    def start(name: str) -> int:
        return small_hub.api("POST", f"/users/{name}/server").status_code

    with ThreadPoolExecutor(len(names)) as pool:
        answers = dict(zip(names, pool.map(start, names), strict=True))
    assert sorted(answers.values()) == [202, 202, *[503] * 6]
    for name, status in answers.items():
        if status == 202:
            wait_until(lambda name=name: (small_hub.server(name) or {}).get("ready"), 30)
            small_hub.stop_server(name)
