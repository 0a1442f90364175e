"""The base image, built and started for real."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from notebook_container import FAULT, TOKEN, NotebookContainer

from taccuino.engines.base_image import BASE_IMAGE, ensure_base_image
from taccuino.engines.image_check import check_image
from taccuino.engines.images import ImageStore
from taccuino.settings import Settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(
    store: ImageStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotebookContainer]:
    workarea = tmp_path_factory.mktemp("workarea")
    with NotebookContainer(store, workarea, "taccuino-test-server") as running:
        running.wait_until_ready()
        yield running


def test_an_image_that_is_there_is_not_made_again(image_settings: Settings) -> None:
    told: list[str] = []
    began = time.monotonic()
    ensure_base_image(image_settings, told.append)
    assert told == []
    assert time.monotonic() - began < 10


def test_the_whole_check_passes(store: ImageStore) -> None:
    proofs = check_image(store, BASE_IMAGE, print)
    assert [proof for proof in proofs if not proof.passed] == []
    assert {proof.name for proof in proofs} >= {"server", "launcher", "agent", "mounts"}


def test_the_phases_come_in_order(server: NotebookContainer) -> None:
    assert server.phases() == ["booting", "jupyter", "ready"]


def test_a_uid_range_costs_no_copy(server: NotebookContainer) -> None:
    """The image is shared by an idmapped mount: a copy of a gigabyte would take many seconds."""
    assert server.run_seconds < 5
    assert server.shell("stat -c %u /opt/taccuino/bin/taccuino-server /workarea").split() == [
        "0",
        "1000",
    ]


def test_nothing_that_makes_the_start_slow_is_there(server: NotebookContainer) -> None:
    script = "import importlib.util as u; print([m for m in {} if u.find_spec(m)])"
    assert server.shell(f'python -c "{script.format(["rfc3987_syntax", "lark"])}"') == "[]\n"


def test_the_environment_is_whole(server: NotebookContainer) -> None:
    names = "numpy scipy pandas matplotlib h5py pyarrow ipywidgets boto3"
    server.shell(f"set -e; python -c 'import {', '.join(names.split())}'")
    server.shell("set -e; rclone version; git --version; oidc-token --version; curl --version")


_OF_A_PAGE = """
from jsonschema import Draft7Validator
from jupyter_core.paths import jupyter_path
from jupyterlab.commands import get_app_dir
from jupyterlab_server import settings_utils
from taccuino.server import exporters, schemas

class Unasked:
    def check_schema(self, schema):
        raise AssertionError(schema)
    def __call__(self, schema):
        return Draft7Validator(schema)

settings_utils.Validator = Unasked()
schemas.remember()
found, warnings = settings_utils.get_settings(
    get_app_dir() + "/settings", get_app_dir() + "/schemas", "/nonexistent",
    labextensions_path=jupyter_path("labextensions"),
)
assert not warnings, warnings
exporters._import()
from nbconvert.exporters import base
assert base.get_exporter.cache_info().currsize >= len(base.get_export_names()) > 5
print(len(found["settings"]))
"""


def test_what_a_page_asks_for_was_looked_through_before(server: NotebookContainer) -> None:
    """The schemas of the settings at the image's build, and nbconvert's exporters ahead."""
    assert int(server.shell(f"/opt/taccuino/bin/python -c '{_OF_A_PAGE}'")) > 50


def test_oidc_token_and_boto3_find_the_agent(server: NotebookContainer) -> None:
    assert server.shell("oidc-token infncloud") == "check-access-token\n"
    script = "import boto3; c = boto3.Session().get_credentials(); print(c.method, c.token)"
    assert server.shell(f"python -c '{script}'") == "container-role check\n"


def test_nothing_secret_lies_about(server: NotebookContainer) -> None:
    """The server's own token is in the environment and in Jupyter's private directory only."""
    assert TOKEN not in server.shell("ps -eo args")
    paths = "/home /tmp /run /workarea /etc /var /opt/taccuino/etc"
    found = server.shell(f"grep -rl {TOKEN} {paths} 2>/dev/null || true").splitlines()
    assert [path for path in found if "/jupyter/jpserver-" not in path] == []
    assert server.shell("stat -c %a $(dirname $OIDC_SOCK)") == "700\n"
    environment = server.shell("cat /proc/[0-9]*/environ | tr '\\0' '\\n'")
    for word in (
        "refresh_token",
        "client_secret",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ):
        assert word.lower() not in environment.lower()


def test_the_notices_need_a_login_and_are_no_activity(server: NotebookContainer) -> None:
    assert server.get("/taccuino/notices", token="")[0] in (302, 403)
    before = server.get("/api/status?no_track_activity=1")[1]["last_activity"]
    status, answer = server.get("/taccuino/notices")
    assert (status, answer["notices"][0]["message"]) == (200, FAULT)
    assert answer["notices"][0]["banner"] is True
    assert server.get("/api/status?no_track_activity=1")[1]["last_activity"] == before
    assert server.get("/taccuino/keepalive", method="POST")[0] == 204
    assert server.get("/api/status?no_track_activity=1")[1]["last_activity"] > before


def test_a_process_killed_for_memory_is_told(server: NotebookContainer) -> None:
    server.shell("python -c 'x = bytes([1]) * (800 * 1024**2)' || true")
    notices = server.get("/taccuino/notices")[1]["notices"]
    [killed] = [notice for notice in notices if notice["id"].startswith("memory-kill")]
    assert "memory limit of 512M" in killed["message"]


def test_the_front_end_is_installed_and_allowed(server: NotebookContainer) -> None:
    text = server.shell("jupyter labextension list 2>&1")
    assert "taccuino v" in text
    assert "jupyter-resource-usage" in text
    config = json.loads(
        server.shell("cat /opt/taccuino/etc/jupyter/jupyter_server_config.json")
    )
    assert config["FileContentsManager"]["delete_to_trash"] is False


def test_a_stop_is_quick_and_clean(store: ImageStore, tmp_path: Path) -> None:
    with NotebookContainer(store, tmp_path, "taccuino-test-stop") as running:
        running.wait_until_ready()
        began = time.monotonic()
        store.podman("stop", "--time", "30", running.name, what="stopping")
        assert time.monotonic() - began < 15
        state = store.podman(
            "inspect", "--format", "{{.State.ExitCode}}", running.name, what="the exit code"
        )
        assert state.strip() == "0"
