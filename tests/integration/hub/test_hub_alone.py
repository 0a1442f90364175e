"""The hub's own behaviour, on real JupyterHub: options, pages, readiness, calls, restart."""

from __future__ import annotations

import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from hub_trial import wait_until

from taccuino.offers_file import offer, withdraw
from taccuino.settings import ImageSettings

pytestmark = pytest.mark.integration


def user(hub, name: str) -> str:
    hub.api("POST", f"/users/{name}")
    return f"/users/{name}/server"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "evil"}, "choose base"),
        ({"image": "gpu"}, "choose base"),
        ({"cpu": 1e9}, "choose 1, 0.5 or 2"),
        ({"memory": "-1G"}, "choose 2G, 1G or 4G"),
        ({"memory": "4096G"}, "choose 2G, 1G or 4G"),
        ({"volumes": {"/": "/host"}}, "image, cpu, memory and interface"),
        ({"image": "%s%d%(x)s"}, "choose base"),
    ],
)
def test_the_api_refuses_what_is_not_offered_and_names_what_is(hub, options, said):
    server = user(hub, "ada")
    answer = hub.api("POST", server, json=options)
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert hub.server("ada") is None
    assert hub.api("POST", server, json={"user_options": options}).status_code == 400


def test_options_that_were_stored_elsewhere_are_checked_too(hub):
    server = user(hub, "patch")
    hub.run_server("patch")
    hub.stop_server("patch")
    hub.api("PATCH", server, json={"user_options": {"image": "evil"}}).raise_for_status()
    answer = hub.api("POST", server)
    assert answer.status_code == 400
    hub.run_server("patch")  # the junk is not remembered


def test_a_last_choice_that_was_withdrawn_is_refused_and_forgotten(hub):
    trial = ImageSettings(name="trial", reference="local/trial")
    offers = hub.directory / "state" / "offers.json"
    offer(offers, trial)
    hub.run_server("wilma", image="trial", memory="4G")
    hub.stop_server("wilma")
    assert withdraw(offers, "trial")
    answer = hub.api("POST", user(hub, "wilma"))
    assert answer.status_code == 400
    assert answer.json()["message"] == "Image 'trial' is not offered to you; choose base"
    assert hub.server("wilma") is None
    hub.run_server("wilma")
    chosen = hub.server("wilma")["user_options"]
    assert [chosen[name] for name in ("image", "memory")] == ["base", "4G"]


def test_what_was_refused_does_not_touch_the_last_choice(hub):
    hub.run_server("wanda", memory="4G")
    hub.stop_server("wanda")
    link = f"{hub.url}/spawn/wanda?opt-image=evil"
    assert "choose base" in hub.browser("wanda").get(link, timeout=10).text
    hub.run_server("wanda")
    assert hub.server("wanda")["user_options"]["memory"] == "4G"


def test_a_start_takes_the_options_and_remembers_them(hub):
    hub.run_server("grace", image="gpu", cpu="2", memory="4096M")
    chosen = {"image": "gpu", "cpu": 2, "memory": "4G", "interface": "lab"}
    assert hub.server("grace")["user_options"] == chosen
    hub.stop_server("grace")
    refused = hub.api("POST", "/users/grace/server", json={"image": "evil"})
    assert refused.status_code == 400
    page = hub.browser("grace").get(f"{hub.url}/spawn", timeout=10).text
    assert re.search(r'<option value="gpu"[^>]* selected>', page)
    assert re.search(r'name="memory" value="4G" checked', page)


def test_the_form_offers_only_what_the_groups_may_use(hub):
    page = hub.browser("ben").get(f"{hub.url}/spawn", timeout=10).text
    assert 'value="base"' in page
    assert 'value="gpu"' not in page
    assert "Maintenance &lt;on&gt; Friday" in page


def test_a_hostile_form_is_shown_again_with_the_reason(hub):
    browser = hub.browser("mallory")
    page = browser.get(f"{hub.url}/spawn", timeout=10).text
    token = re.search(r'name="_xsrf" value="([^"]+)"', page)[1]
    form = {"image": "<script>", "cpu": "1", "_xsrf": token}
    answer = browser.post(f"{hub.url}/spawn", data=form, timeout=10)
    assert answer.status_code == 400
    assert "is not offered to you; choose base" in answer.text
    assert "<script>'" not in answer.text
    assert hub.server("mallory") is None


def test_the_form_starts_a_server(hub):
    browser = hub.browser("fiona")
    page = browser.get(f"{hub.url}/spawn", timeout=10).text
    token = re.search(r'name="_xsrf" value="([^"]+)"', page)[1]
    form = {"image": "base", "cpu": "0.5", "memory": "1G", "interface": "notebook"}
    answer = browser.post(
        f"{hub.url}/spawn", data={**form, "_xsrf": token}, timeout=10, allow_redirects=False
    )
    assert answer.status_code == 302
    assert "_xsrf" not in answer.headers["Location"]
    wait_until(lambda: (hub.server("fiona") or {}).get("ready"), 20, hub.log)
    assert hub.server("fiona")["user_options"]["interface"] == "notebook"
    home = browser.get(f"{hub.url}/home", timeout=10).text
    assert "Open my server" in home
    assert "Running" in home


def test_a_failure_is_told_in_words_and_can_be_tried_again(hub):
    browser = hub.browser("unlucky")
    server = user(hub, "unlucky")
    assert hub.api("POST", server).status_code == 202

    def pending() -> str:
        return browser.get(f"{hub.url}/spawn-pending/unlucky", timeout=10).text

    wait_until(
        lambda: "The image could not be found. An operator was told." in pending(), 10, hub.log
    )
    page = pending()
    assert "internal detail" not in page
    assert "Try again" in page
    assert "Change options" in page


def end_of(answer: requests.Response) -> dict:
    """The last event of a start's progress."""
    lines = [line for line in answer.iter_lines() if line.startswith(b"data:")]
    return json.loads(lines[-1][5:])


def test_a_start_is_given_up_at_any_time(hub):
    server = user(hub, "slowly")
    assert hub.api("POST", server).status_code == 202
    wait_until(lambda: hub.server("slowly")["pending"] == "spawn", 5, hub.log)
    with hub.api("GET", f"{server}/progress", stream=True) as progress:
        assert hub.api("DELETE", server).status_code == 202
        assert hub.api("DELETE", server).status_code == 202  # asked twice
        assert end_of(progress)["message"] == "Spawn failed: The start was stopped."
    wait_until(lambda: hub.server("slowly") is None, 5, hub.log)
    browser = hub.browser("slowly")
    page = browser.get(f"{hub.url}/spawn-pending/slowly", timeout=10).text
    assert "Its start was stopped" in page
    assert "did not start" not in page
    home = browser.get(f"{hub.url}/home", timeout=10).text
    assert ">Stopped<" in home
    assert "last-failure" not in home


def test_only_who_may_stop_a_server_gives_its_start_up(hub):
    server = user(hub, "slowest")
    user(hub, "mallory")
    assert hub.api("POST", server).status_code == 202
    own, other = (
        hub.api("POST", f"/users/{name}/tokens", json={}).json()["token"]
        for name in ("slowest", "mallory")
    )
    assert hub.api("DELETE", server, other).status_code in {403, 404}
    assert hub.api("DELETE", server, "no-token").status_code == 403
    assert hub.server("slowest")["pending"] == "spawn"
    assert hub.api("DELETE", server, own).status_code == 202
    wait_until(lambda: hub.server("slowest") is None, 5, hub.log)


def test_the_home_page_says_how_far_a_stop_is(hub):
    hub.run_server("uploading")
    browser = hub.browser("uploading")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(hub.api, "DELETE", "/users/uploading/server")
        wait_until(lambda: hub.server("uploading")["pending"] == "stop", 5, hub.log)
        for page in ("home", "spawn-pending/uploading"):
            said = browser.get(f"{hub.url}/{page}", timeout=10).text
            assert "7 files left" in said
        assert answer.result().status_code == 204
    wait_until(lambda: hub.server("uploading") is None, 10, hub.log)


@pytest.mark.parametrize("path", ["home", "token", "spawn", "logout", "nothing"])
def test_every_page_has_its_headers_and_loads_nothing_from_elsewhere(hub, path):
    answer = hub.browser("ada").get(f"{hub.url}/{path}", timeout=10)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    sources = re.findall(r'(?:src|<link[^>]* href)="(https?://[^"]+)"', answer.text)
    assert sources == []


def test_static_files_are_kept_for_good_under_their_version(hub):
    page = requests.get(f"{hub.url}/login", timeout=10).text
    path = re.search(r'href="/hub(/taccuino/static/taccuino.css\?v=\w+)"', page)[1]
    answer = requests.get(f"{hub.url}{path}", timeout=10)
    assert answer.headers["Content-Type"] == "text/css"
    assert "max-age" in answer.headers["Cache-Control"]


def test_readiness_names_each_part_without_a_login(hub):
    answer = requests.get(f"{hub.url}/ready", timeout=10)
    assert answer.status_code == 503  # none of the neighbours is there
    report = answer.json()
    assert report["ready"] is False
    assert set(report["checks"]) == {
        "database", "engine", "mount-plane", "edge", "disk", "iam", "storage"
    }  # fmt: skip
    assert report["checks"]["database"]["state"] == "ok"
    assert report["checks"]["engine"]["message"]


def test_only_a_server_speaks_for_itself(hub):
    hub.run_server("vera")
    own = hub.directory / "vera.token"
    wait_until(own.exists, 10)
    token = own.read_text()
    users_token = hub.api("POST", "/users/vera/tokens", json={}).json()["token"]
    events = "/taccuino/servers/events"
    said = {"server": "", "phase": "ready", "message": ""}
    assert hub.api("POST", events, token, json=said).status_code == 204
    assert hub.api("POST", events, users_token, json=said).status_code == 403
    assert hub.api("POST", events, json=said).status_code == 403
    assert hub.api("POST", events, "no-token", json=said).status_code == 403
    assert hub.api("POST", events, token, json={**said, "server": "x"}).status_code == 403
    assert hub.api("POST", events, token, json={**said, "phase": "x"}).status_code == 400
    assert hub.api("POST", events, token, json=[1]).status_code == 400
    assert hub.api("GET", "/taccuino/servers/notices", token).json() == {
        "notices": [],
        "storage": None,
    }
    assert hub.api("GET", "/taccuino/servers/notices", users_token).status_code == 403
    assert hub.api("GET", "/taccuino/servers/vera/idle", token).status_code == 403
    assert hub.api("GET", "/users/ada", token).status_code in {403, 404}


def test_many_starts_at_once_are_all_taken(hub):
    names = [f"crowd{number}" for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        codes = list(pool.map(lambda name: hub.api("POST", user(hub, name)).status_code, names))
    assert set(codes) <= {201, 202}


def test_a_hub_that_restarts_keeps_a_server_that_it_cannot_reach(hub):
    """Plain JupyterHub stops it after 30 s; here the hub is up at once, and tells of it."""
    hub.run_server("kept")
    pid = int((hub.directory / "kept.pid").read_text())
    hub.stop()
    os.kill(pid, signal.SIGSTOP)
    try:
        hub.start()
        assert hub.server("kept")["ready"]
        wait_until(lambda: "1 of the servers that ran do not answer" in hub.log(), 30, hub.log)
        assert hub.server("kept")["ready"]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "those that run answer" in hub.log(), 60, hub.log)
    assert hub.server("kept")["ready"]
