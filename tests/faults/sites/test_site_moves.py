"""A user among sites: where they belong, what they are told, and how they move."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from support.ground import until
from support.instance import Instance
from support.notebook import Notebook
from support.people import PASSWORD, make_accounts
from support.person import Person
from support.storage_pages import StoragePages
from support.two_sites import SITES, Site, users_s3, wait_for_sites
from taccuino.sites import Place, home

pytestmark = pytest.mark.integration


@pytest.fixture
def user(pair: tuple[Instance, dict[str, Site]]) -> Iterator[Person]:
    """Somebody who belongs to bari, and is nowhere yet."""
    shared, sites = pair
    places = [Place(name) for name in SITES]
    # Another one for each test, and for each run on sites that go on running.
    names = (f"mover-{secrets.token_hex(3)}" for _ in range(99))
    name = next(name for name in names if home(name, places) == "bari")
    (person,) = make_accounts(shared, [name])
    yield person
    for site in sites.values():
        stop(at(person, site))


def at(person: Person, site: Site) -> Person:
    """The same user in another browser, which is at that site whatever it is told."""
    other = Person(site.settings.edge_url, person.username, PASSWORD)
    other.url = person.url  # what the IAM knows; the cookie leads to the site
    host = person.url.split("//")[1].split(":")[0]
    for name, value in (("taccuino-site", site.name), ("taccuino-placed", "1")):
        other.http.cookies.set(name, value, domain=host, path="/")
    return other


def stop(person: Person) -> None:
    if person._token or person.http.cookies:
        person.stop()


def site_of(person: Person) -> str | None:
    found = [c.value for c in person.http.cookies if c.name == "taccuino-site"]
    return found[-1] if found else None


def maintenance(shared: Instance, *words: str) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("taccuino")), "maintenance", *words],
        env={"TACCUINO_STATE": str(shared.state_dir), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def servers(pair: tuple[Instance, dict[str, Site]], username: str) -> list[str]:
    """The sites whose edge has a route to a server of the user."""
    return [name for name, site in pair[1].items() if site.serves(username)]


def test_the_status_shows_both(pair: tuple[Instance, dict[str, Site]]) -> None:
    shared, sites = pair
    status = shared.status
    assert status["ready"]
    assert [site["name"] for site in status["sites"]] == list(SITES)
    assert len({site["url"] for site in status["sites"]}) == 2
    names = {service["name"] for service in status["services"]}
    assert {"iam", "radosgw", "bari/hub", "cnaf/hub"} <= names
    for site in sites.values():
        page = requests.get(f"{site.settings.edge_url}/hub/sites", timeout=10)
        assert page.status_code == 200
        assert page.text.count("data-site=") == 2


def test_a_login_leads_to_the_users_site(
    pair: tuple[Instance, dict[str, Site]], user: Person
) -> None:
    shared, _ = pair
    for _ in range(2):
        person = Person(shared.url, user.username, PASSWORD)
        assert person.login().status_code == 200
        assert site_of(person) == "bari"
    assert user.start()[-1].get("ready")
    assert servers(pair, user.username) == ["bari"]


def test_an_older_server_is_told_and_ends(
    pair: tuple[Instance, dict[str, Site]], user: Person
) -> None:
    """Its uploads are drained: nothing of it is lost."""
    user.login()
    assert user.start()[-1].get("ready")
    with Notebook(user) as notebook:
        notebook.shell(f"echo kept > cloud_storage/{user.username}/older.txt")
    second = at(user, pair[1]["cnaf"])
    second.login()
    assert site_of(second) == "cnaf"
    assert second.start()[-1].get("ready")
    second.http.get(f"{second.url}/user/{user.username}/lab", timeout=20)
    path = f"/user/{user.username}/taccuino/notices"
    until(
        lambda: "runs at bari" in second.http.get(second.url + path, timeout=10).text,
        20,
        lambda: servers(pair, user.username),
    )
    until(lambda: servers(pair, user.username) == ["cnaf"], 60)
    s3 = users_s3(pair[1], user.username)
    body = s3.get_object(Bucket=user.username, Key="older.txt")["Body"].read()
    assert body == b"kept\n"


def test_who_comes_while_their_sites_hub_is_away_is_told(
    pair: tuple[Instance, dict[str, Site]], user: Person
) -> None:
    """Their server runs on, and nobody but that hub can let this browser in to it."""
    shared, sites = pair
    user.login()
    assert user.start()[-1].get("ready")
    lab = f"{shared.url}/user/{user.username}/lab"
    assert user.http.get(lab, timeout=20).url == lab
    other = Person(shared.url, user.username, PASSWORD)
    with sites["bari"].without("hub"):
        other.login()
        for _ in range(2):
            began = time.monotonic()
            page = other.http.get(lab, timeout=20)
            assert time.monotonic() - began < 5
            assert page.status_code == 424
            assert 'data-elsewhere="bari"' in page.text
        assert user.http.get(lab, timeout=20).url == lab, "who is in stays in"
    wait_for_sites(shared)
    assert other.http.get(lab, timeout=20).url == lab


def leads_to(entry: Site, site: str) -> bool:
    """Whether a site's edge leads a browser that is at a site there; if not, it says so."""
    cookies = {"taccuino-site": site}
    answer = requests.get(f"{entry.settings.edge_url}/hub/sites", cookies=cookies, timeout=20)
    return "taccuino-site" not in answer.cookies


def told(address: str) -> str:
    """Why a shared file can't be had."""
    try:
        answer = requests.get(address, timeout=20)
    except requests.ConnectionError:
        return ""  # waited for a site that was just found to be away
    assert answer.status_code == 503, answer.url
    return answer.text


def test_a_shared_file_opens_at_either_site(
    pair: tuple[Instance, dict[str, Site]], user: Person
) -> None:
    """One site knows of the link, whose name is in it."""
    shared, sites = pair
    pages = StoragePages(user)
    assert site_of(user) == "bari"
    pages.put("for all.txt", b"for all")
    body = {"bucket": pages.bucket, "key": "for all.txt", "seconds": 600}
    link = pages.ok("POST", "shares", body)["url"]
    assert link.startswith(f"{shared.url}/services/storage/s/bari/")
    entries = [link.replace(shared.url, site.settings.edge_url) for site in sites.values()]
    for address in entries:
        assert "for all.txt" in requests.get(address, timeout=20).text
        assert requests.get(f"{address}/download", timeout=20).content == b"for all"
    with sites["bari"].cut_off():
        until(lambda: "The site bari" in told(entries[1]), 20)
    until(lambda: requests.get(entries[1], timeout=20).status_code == 200, 20)
    until(lambda: leads_to(sites["cnaf"], "bari") and leads_to(sites["bari"], "cnaf"), 20)


def test_a_busy_server_is_not_ended(
    pair: tuple[Instance, dict[str, Site]], user: Person
) -> None:
    user.login()
    assert user.start()[-1].get("ready")
    second = at(user, pair[1]["cnaf"])
    second.login()
    with Notebook(user, limit=40) as notebook:
        assert second.start()[-1].get("ready")
        assert notebook.run("import time; time.sleep(10); print('done')") == "done\n"
    until(lambda: servers(pair, user.username) == ["cnaf"], 60)


def test_maintenance(
    pair: tuple[Instance, dict[str, Site]], user: Person, undo: Callable[[Callable], None]
) -> None:
    shared, _ = pair
    user.login()
    assert user.start(cpu=2)[-1].get("ready")
    with Notebook(user) as notebook:
        notebook.shell("echo mine > local/follows.txt")
    assert "takes no new servers" in maintenance(
        shared, "on", "--site", "bari", "-m", "New cooling."
    )
    undo(lambda: maintenance(shared, "off", "--site", "bari"))
    page = until(
        lambda: (
            found
            if "Go on at cnaf" in (found := user.http.get(f"{user.url}/hub/home").text)
            else None
        ),
        10,
    )
    assert "New cooling." in page
    # Who belongs here and has no server goes to the other site.
    (other,) = make_accounts(shared, [f"{user.username}-too"])
    other.login()
    assert site_of(other) == "cnaf"
    # A start here is refused in words.
    here = at(other, pair[1]["bari"])
    here.login()
    answer = here.api("POST", f"/users/{other.username}/server", json={})
    assert answer.status_code == 503
    assert "in maintenance" in answer.json()["message"]
    # One click moves, with the same options.
    xsrf = next(c.value for c in user.http.cookies if c.name == "_xsrf" and c.path == "/hub/")
    moved = user.http.post(
        f"{user.url}/hub/move", data={"site": "cnaf", "_xsrf": xsrf}, timeout=60
    )
    assert moved.status_code == 200, moved.text[:300]
    assert site_of(user) == "cnaf"
    until(lambda: servers(pair, user.username) == ["cnaf"], 60)
    user._token = None
    with Notebook(user) as notebook:
        assert notebook.shell("cat local/follows.txt") == "mine\n"
    assert user.api("GET", f"/users/{user.username}").json()["servers"][""]["user_options"][
        "cpu"
    ] == pytest.approx(2)


@pytest.mark.parametrize("site", ["nowhere", "", "bari"])
def test_nobody_moves_to_a_site_that_takes_none(
    pair: tuple[Instance, dict[str, Site]], user: Person, site: str
) -> None:
    user.login()
    user.http.get(f"{user.url}/hub/home", timeout=10)
    xsrf = next(c.value for c in user.http.cookies if c.name == "_xsrf" and c.path == "/hub/")
    answer = user.http.post(
        f"{user.url}/hub/move", data={"site": site, "_xsrf": xsrf}, timeout=10
    )
    assert answer.status_code == 400
    assert "cnaf" in answer.text


def test_only_a_site_may_ask_for_a_sites_state(
    pair: tuple[Instance, dict[str, Site]], user: Person
) -> None:
    user.login()
    assert user.api("GET", "/taccuino/site").status_code == 403
    assert requests.get(f"{user.url}/hub/api/taccuino/site", timeout=10).status_code == 403


def test_wrong_words_to_the_command(pair: tuple[Instance, dict[str, Site]]) -> None:
    shared, _ = pair
    for words in (
        ("on",),
        ("on", "--site", "napoli"),
        ("on", "--site", "bari", "-m", "x" * 501),
    ):
        said = maintenance(shared, *words)
        assert "taccuino: maintenance" in said
        assert "Traceback" not in said


@pytest.fixture
def undo() -> Iterator[Callable[[Callable], None]]:
    """Take what is to be done in the end."""
    todo: list[Callable] = []
    yield todo.append
    for one in todo:
        one()
        time.sleep(1.5)  # until the peers know
