"""The launcher, run for real with a program in Jupyter's place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_double import HubDouble

from taccuino.server.contract import Contract
from taccuino.server.launcher import command, failure

SOURCE = Path(__file__).parents[3] / "src"
RUN = (
    f"import sys; sys.path.insert(0, {str(SOURCE)!r}); "
    "from taccuino.server.launcher import main; sys.exit(main())"
)
READY = "import os; os.write(int(os.environ['TACCUINO_NOTIFY_FD']), b'ready\\n')"


def start(
    tmp_path: Path, hub: HubDouble | None, *child: str, **more: str
) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "JUPYTERHUB_ROOT_DIR": str(tmp_path), **more}
    if hub:
        hub.answers["/servers/events"] = (204, None)
        environment |= {"JUPYTERHUB_API_URL": hub.url, "JUPYTERHUB_API_TOKEN": "server-token"}
    # Isolated, and without site: as the image's entry point runs it.
    return subprocess.Popen(
        [sys.executable, "-IS", "-c", RUN, sys.executable, "-c", *child],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def phases(hub: HubDouble) -> list[str]:
    return [body["phase"] for body in hub.asked("/servers/events")]


def test_tells_the_phases_and_exits_with_the_childs_code(
    tmp_path: Path, hub: HubDouble
) -> None:
    launcher = start(tmp_path, hub, f"{READY}; raise SystemExit(7)")
    _, errors = launcher.communicate(timeout=20)
    assert (launcher.returncode, errors) == (7, "")
    assert phases(hub) == ["booting", "jupyter", "ready"]
    assert (tmp_path / "examples").is_dir()


def test_a_child_that_ends_too_early_is_a_failure(tmp_path: Path, hub: HubDouble) -> None:
    launcher = start(tmp_path, hub, "raise SystemExit(3)", JUPYTERHUB_SERVER_NAME="second")
    launcher.communicate(timeout=20)
    assert launcher.returncode == 3
    last = hub.asked("/servers/events")[-1]
    assert (last["phase"], last["server"]) == ("failed", "second")
    assert "code 3" in last["message"]


def test_a_program_that_is_not_there(tmp_path: Path, hub: HubDouble) -> None:
    hub.answers["/servers/events"] = (204, None)
    done = subprocess.run(
        [sys.executable, "-IS", "-c", RUN, "/nonexistent/jupyter"],
        env={
            "JUPYTERHUB_ROOT_DIR": str(tmp_path),
            "JUPYTERHUB_API_URL": hub.url,
            "JUPYTERHUB_API_TOKEN": "server-token",
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 127
    assert "/nonexistent/jupyter cannot be run: No such file" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_child(
    tmp_path: Path, hub: HubDouble, number: signal.Signals
) -> None:
    program = (
        "import signal, sys, time; "
        f"signal.signal({int(number)}, lambda *_: sys.exit(42)); {READY}; "
        "print('up', flush=True); time.sleep(30)"
    )
    launcher = start(tmp_path, hub, program)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "up\n"
    launcher.send_signal(number)
    launcher.communicate(timeout=20)
    assert launcher.returncode == 42


def test_the_childs_environment(tmp_path: Path, hub: HubDouble) -> None:
    keys = {"AccessKeyId": "id", "SecretAccessKey": "secret", "Token": "t"}
    hub.answers["/credentials"] = (200, {**keys, "Expiration": "2099-01-01T00:00:00Z"})
    program = (
        "import json, os, urllib.request as u; e = dict(os.environ); "
        "r = u.Request(e['AWS_CONTAINER_CREDENTIALS_FULL_URI'], "
        "headers={'Authorization': e['AWS_CONTAINER_AUTHORIZATION_TOKEN']}); "
        "e['keys'] = json.load(u.urlopen(r)); "
        "e['mode'] = os.stat(os.path.dirname(e['OIDC_SOCK'])).st_mode & 0o777; "
        f"{READY}; print(json.dumps(e))"
    )
    launcher = start(
        tmp_path, hub, program, AWS_SECRET_ACCESS_KEY="static", AWS_DEFAULT_REGION="here"
    )
    output, _ = launcher.communicate(timeout=20)
    seen = json.loads(output)
    assert seen["keys"]["SecretAccessKey"] == "secret"
    assert seen["mode"] == 0o700
    assert (seen["AWS_REGION"], seen["AWS_DEFAULT_REGION"]) == ("here", "here")
    assert "AWS_SECRET_ACCESS_KEY" not in seen


def test_a_hub_that_is_away_does_not_stop_the_start(tmp_path: Path) -> None:
    launcher = start(
        tmp_path,
        None,
        f"{READY}; import time; time.sleep(0.1)",
        JUPYTERHUB_API_URL="http://127.0.0.1:9/hub/api",
        JUPYTERHUB_API_TOKEN="t",
    )
    began = time.monotonic()
    launcher.communicate(timeout=20)
    assert launcher.returncode == 0
    assert time.monotonic() - began < 10


def test_without_a_hub_it_says_so(tmp_path: Path) -> None:
    launcher = start(tmp_path, None, READY)
    _, errors = launcher.communicate(timeout=20)
    assert launcher.returncode == 0
    assert "a trial of the image" in errors


def test_it_needs_nothing_but_the_standard_library_and_is_small(tmp_path: Path) -> None:
    """The launcher is in every server: what it imports before Jupyter starts is counted."""
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import taccuino.server.launcher; "
        "print(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"asyncio", "ssl", "http.client", "subprocess", "tempfile", "dataclasses", "ctypes"}
    assert heavy & set(done.stdout.split()) == set()


HUB = {"JUPYTERHUB_API_URL": "http://h/hub/api", "JUPYTERHUB_API_TOKEN": "t"}


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        (HUB, [], ["taccuino.server.singleuser", "--ServerApp.default_url=/lab"]),
        (
            HUB | {"TACCUINO_INTERFACE": "notebook"},
            ["--debug"],
            ["taccuino.server.singleuser", "--ServerApp.default_url=/tree", "--debug"],
        ),
        ({}, [], ["jupyter_server", "--ServerApp.ip=0.0.0.0"]),
        (HUB, ["bash", "-l"], ["bash", "-l"]),
    ],
)
def test_the_command(
    environment: dict[str, str], arguments: list[str], expected: list[str]
) -> None:
    line = command(Contract(environment), arguments)
    assert [word for word in line if word in expected] == expected


@pytest.mark.parametrize(
    ("code", "kills", "limit", "text"),
    [
        (1, 0, None, "ended with code 1"),
        (-9, 0, None, "ended by signal 9"),
        (-9, 1, 2 * 1024**3, "memory limit of 2G"),
        (1, None, None, "log says why"),
    ],
)
def test_the_sentence_for_a_failure(
    code: int, kills: int | None, limit: int | None, text: str
) -> None:
    assert text in failure(code, kills, limit)
