"""JupyterLab's files from the edge: whose they are, what is served, and who goes without."""

from __future__ import annotations

import gzip
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlparse

import brotli
import pytest

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person
from taccuino import offers_file
from taccuino.engines.images import ImageStore
from taccuino.settings import ImageSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TREE = re.compile(r"^/static/[0-9a-f]{32}$")
OWN_EXTENSION = """
d=~/.local/share/jupyter/labextensions/mine && mkdir -p $d/static &&
echo '{"name": "mine", "version": "1", "jupyterlab": {"_build": {"load": "static/r.js"}}}' > $d/package.json &&
echo 'window.mine = 1' > $d/static/r.js
"""


def page(person: Person, path: str = "lab") -> tuple[str, dict[str, Any]]:
    """A page of the person's server and its configuration."""
    person.login()
    text = person.http.get(f"{person.url}/user/{person.username}/{path}", timeout=60).text
    found = re.search(r'<script id="jupyter-config-data"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert found, text[:1000]
    return text, json.loads(found[1])


def raw(
    instance: Instance, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """Ask for a path as it is written, without anybody's cookie."""
    address = urlparse(instance.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def alice(instance: Instance) -> Iterator[Person]:
    person = instance.person("alice")
    person.stop()
    events = person.start(image="base", cpu=1, memory="1G")
    assert events[-1].get("ready"), events
    yield person
    person.stop()


@pytest.fixture(scope="module")
def main_script(alice: Person) -> str:
    text, _ = page(alice)
    found = re.search(r'src="(/static/[^"]*/main\.[^"]*)"', text)
    assert found, "JupyterLab's page does not refer to the edge"
    return found[1]


def test_the_files_are_compressed_and_kept_for_good(
    instance: Instance, main_script: str
) -> None:
    plain, content = raw(instance, main_script)
    assert plain.status == 200
    assert content
    for name, decompress in (("gzip", gzip.decompress), ("br", brotli.decompress)):
        answer, body = raw(instance, main_script, **{"Accept-Encoding": name})
        assert answer.status == 200
        assert answer.getheader("Content-Encoding") == name
        assert answer.getheader("Cache-Control") == "public, max-age=31536000, immutable"
        assert "javascript" in (answer.getheader("Content-Type") or "")
        assert answer.getheader("Vary") == "Accept-Encoding"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Set-Cookie") is None
        assert decompress(body) == content
        assert len(body) < len(content) / 2.5


@pytest.mark.parametrize("path", ["lab", "tree"])
def test_every_user_of_an_image_has_the_same_addresses(
    instance: Instance, alice: Person, path: str
) -> None:
    _, config = page(alice, path)
    keys = ("fullStaticUrl", "fullLabextensionsUrl", "fullThemesUrl")
    for key in keys:
        assert TREE.match(config[key]), f"{key}: {config[key]}"
    names = {one["name"] for one in config["federated_extensions"]}
    assert "taccuino" in names
    for extension in config["federated_extensions"]:
        address = f"{config['fullLabextensionsUrl']}/{extension['name']}/{extension['load']}"
        assert raw(instance, address)[0].status == 200, address
    theme = f"{config['fullThemesUrl']}/@jupyterlab/theme-light-extension/index.css"
    assert raw(instance, theme)[0].status == 200
    bruno = instance.person("bruno")
    bruno.stop()
    try:
        assert bruno.start(image="base", cpu=1, memory="1G")[-1].get("ready")
        _, others = page(bruno, path)
        assert [others[key] for key in keys] == [config[key] for key in keys]
    finally:
        bruno.stop()


def test_nothing_else_is_served(instance: Instance, main_script: str) -> None:
    tree = main_script.rpartition("/")[0]
    for path in (
        "/static/",
        f"{tree}/",
        f"{tree}/nothing.js",
        f"{tree}/index.html",
        f"{tree}/../../catalogue.json",
        f"{tree}/../../../settings.json",
        f"{tree}/%2e%2e/%2e%2e/catalogue.json",
        f"{tree}/..%2f..%2fcatalogue.json",
        f"{tree}/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecrets/hub-crypt-key",
        f"{tree}/....//....//catalogue.json",
        "/static/../catalogue.json",
        "/static/../nginx.conf",
        "/static/%2e%2e/nginx.conf",
        f"/static//{tree.rpartition('/')[2]}/../../catalogue.json",
        "/static/" + "0" * 32 + "/main.js",
    ):
        answer, body = raw(instance, path)
        assert answer.status in (400, 403, 404), f"{path}: {answer.status}"
        assert answer.getheader("Cache-Control") != "public, max-age=31536000, immutable"
        assert b'"trees"' not in body
    for method in ("POST", "PUT", "DELETE"):
        assert raw(instance, main_script, method)[0].status in (403, 405), method


def test_it_runs_without_privileges(instance: Instance) -> None:
    process = instance.service("front-end")
    assert process.username() == "nobody"
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert int(status["CapEff"], 16) == 0


def test_a_request_waits_while_it_is_restarted(instance: Instance, main_script: str) -> None:
    instance.kill("front-end")
    assert raw(instance, main_script)[0].status == 200
    instance.wait_until_ready()


def test_a_users_own_extension_comes_from_their_server(
    instance: Instance, alice: Person
) -> None:
    with Notebook(alice) as notebook:
        assert notebook.shell(OWN_EXTENSION) == ""
    _, config = page(alice)
    loads = {one["name"]: one["load"] for one in config["federated_extensions"]}
    base = f"{instance.url}{config['fullLabextensionsUrl']}"
    assert raw(instance, f"{config['fullLabextensionsUrl']}/mine/static/r.js")[0].status == 404
    address = urljoin(f"{base}/mine/", loads["mine"])  # as a browser reads it
    assert address == f"{instance.url}/user/alice/lab/extensions/mine/static/r.js"
    assert alice.http.get(address, timeout=30).text == "window.mine = 1\n"
    assert loads["taccuino"] == "static/remoteEntry.js"


def test_an_image_that_was_not_exported_serves_itself(instance: Instance) -> None:
    """Another image of the same front end: at first on its own, then with all the others."""
    store = ImageStore(instance.settings)
    reference = "localhost/taccuino/page-trial:latest"
    person = instance.person("bruno")
    person.stop()
    base = "localhost/taccuino/base:latest"
    store.podman(
        "build", "-q", "-t", reference, "-", stdin=f"FROM {base}\nLABEL trial=1\n", what="x"
    )
    offers = offers_file.offers_path(instance.settings)
    offers_file.offer(offers, ImageSettings(name="page-trial", reference=reference))
    try:
        assert person.start(image="page-trial", cpu=1, memory="1G")[-1].get("ready")
        text, alone = page(person)
        assert alone["fullStaticUrl"] == "/user/bruno/static/lab"
        own_main = re.search(r'src="(/user/bruno/static/lab/main[^"]*)"', text)
        assert own_main
        answer = person.http.get(instance.url + own_main[1], timeout=30)
        assert answer.status_code == 200
        assert answer.headers["Content-Encoding"] == "gzip"
        person.stop()
        instance.run("image", "offer", "page-trial")
        assert person.start(image="page-trial", cpu=1, memory="1G")[-1].get("ready")
        _, shared = page(person)
        assert TREE.match(shared["fullStaticUrl"])
        assert raw(instance, f"{shared['fullStaticUrl']}/package.json")[0].status in (200, 404)
        # The same files are there once, whatever the images are called.
        listing = json.loads((instance.state_dir / "front-end/catalogue.json").read_text())
        trees = [entry["trees"]["lab"] for entry in listing.values()]
        assert len(trees) > len(set(trees))
    finally:
        person.stop()
        instance.run("image", "withdraw", "page-trial")
        store.podman("rmi", "--force", reference, what="removing the trial")
    listing = json.loads((instance.state_dir / "front-end/catalogue.json").read_text())
    assert not any(reference in entry["references"] for entry in listing.values())
