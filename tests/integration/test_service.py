"""The whole service through its public interfaces, as an operator's own checks would use it."""

from __future__ import annotations

import json
import time

import pytest
import requests

from support.ground import until
from support.notebook import KernelError, Notebook
from support.person import Person

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def alice(instance) -> Person:
    return instance.person("alice")


@pytest.fixture(scope="module")
def notebook(alice: Person):
    events = alice.start(image="base", cpu=1, memory="2G", interface="lab")
    assert events[-1].get("ready"), events
    alice.events = events
    with Notebook(alice) as notebook:
        yield notebook
    alice.stop()


def test_status_keeps_its_contract(instance) -> None:
    status = instance.status
    assert status["ready"] is True
    assert status["state_dir"] == str(instance.state_dir)
    assert status["sites"] == [{"name": "local", "url": status["url"], "ready": True}]
    services = {service["name"]: service for service in status["services"]}
    assert set(services) == {
        "ceph-mon", "ceph-osd", "radosgw", "iam", "edge", "engine", "mount-plane",
        "storage-pages", "front-end", "hub",
    }  # fmt: skip
    assert all(s["state"] == "running" and s["pid"] > 0 for s in services.values())
    assert {(a["username"], a["admin"]) for a in status["accounts"]} >= {
        ("alice", False), ("bruno", False), ("ada", True),
    }  # fmt: skip
    assert set(status["s3"]) == {"endpoint", "region"}
    assert requests.get(
        status["iam"]["issuer"] + "/.well-known/openid-configuration", timeout=9
    ).ok


def test_secrets_are_for_root_alone(instance) -> None:
    files = list((instance.state_dir / "secrets").iterdir())
    files += [instance.state_dir / "accounts.json", instance.state_dir / "settings.json"]
    assert files
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_readiness_names_each_part(instance) -> None:
    answer = requests.get(f"{instance.url}/hub/ready", timeout=20)
    assert answer.status_code == 200
    checks = answer.json()["checks"]
    assert len(checks) >= 5
    assert all(check["state"] == "ok" and check["latency_ms"] >= 0 for check in checks.values())
    assert requests.get(f"{instance.url}/hub/health", timeout=9).status_code == 200
    metrics = requests.get(f"{instance.url}/hub/metrics", timeout=9)
    assert metrics.status_code == 200
    assert "# TYPE" in metrics.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": "nope"}, "base"),
        ({"image": "../../etc/passwd"}, "base"),
        ({"image": "base; rm -rf /"}, "base"),
        ({"image": ["base"]}, "base"),
        ({"cpu": 1e9}, "2"),
        ({"cpu": -1}, "2"),
        ({"cpu": "many"}, "2"),
        ({"memory": "-2G"}, "2G"),
        ({"memory": "900T"}, "2G"),
        ({"memory": "2G" * 5000}, "2G"),
        ({"interface": "emacs"}, "lab"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_is_not_offered_is_refused(alice: Person, options, words: str) -> None:
    answer = alice.api("POST", "/users/alice/server", json=options)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["message"]
    assert "Traceback" not in answer.text
    assert not alice.api("GET", "/users/alice").json()["servers"]


def test_the_start_tells_its_phases(notebook: Notebook) -> None:
    words = " ".join(event.get("message", "") for event in notebook.person.events).lower()
    for phase in ("storage", "container", "jupyter", "ready"):
        assert phase in words


def test_starts_are_measured(instance, notebook: Notebook) -> None:
    assert notebook.person.events[-1]["ready"]
    lines = requests.get(f"{instance.url}/hub/metrics", timeout=9).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    name = "taccuino_server_start_seconds_count"
    assert sum(float(values.get(f'{name}{{path="{path}"}}', 0)) for path in ("warm", "cold"))
    for phase in ("storage", "container", "jupyter"):
        name = f'taccuino_server_start_phase_seconds_count{{phase="{phase}"}}'
        assert float(values[name]) >= 1


def test_the_files_are_where_the_design_says(notebook: Notebook) -> None:
    listing = notebook.shell("ls /workarea; ls cloud_storage")
    for name in ("cloud_storage", "local", "examples", "alice", "scratch"):
        assert name in listing.split()
    answer = notebook.person.api("GET", "/user/alice/api/contents/cloud_storage")
    assert {entry["name"] for entry in answer.json()["content"]} == {"alice", "scratch"}


def test_the_mount_and_the_bucket_are_one(notebook: Notebook) -> None:
    assert (
        notebook.run("""
import boto3, os, pathlib, time
path = pathlib.Path("/workarea/cloud_storage/alice/from-the-mount.txt")
path.write_text("ciao")
s3 = boto3.client("s3")
for _ in range(100):
    try:
        body = s3.get_object(Bucket=os.environ["TACCUINO_BUCKET"], Key=path.name)["Body"].read()
        break
    except s3.exceptions.NoSuchKey:
        time.sleep(0.1)
print(body.decode())
""").strip()
        == "ciao"
    )


def test_the_examples_run_green(notebook: Notebook) -> None:
    for script in ("s3_with_boto3.py", "sts_by_hand.py"):
        assert notebook.shell(f"cd examples && python3 {script}; echo exit=$?").endswith(
            "exit=0\n"
        )
    notebooks = notebook.shell("cd examples && ls *.ipynb").split()
    assert notebooks
    for name in notebooks:
        output = notebook.shell(f"cd examples && jupyter execute {name} 2>&1; echo exit=$?")
        assert output.endswith("exit=0\n"), output


def test_oidc_token_answers(notebook: Notebook, instance) -> None:
    token = notebook.shell("oidc-token infncloud").strip()
    assert token.count(".") == 2, token
    issuer = instance.status["iam"]["issuer"]
    answer = requests.get(
        f"{issuer}/oauth/userinfo", headers={"Authorization": f"Bearer {token}"}, timeout=9
    )
    assert answer.json()["preferred_username"] == "alice"


def test_the_container_is_unprivileged(notebook: Notebook) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in notebook.shell("cat /proc/self/status").splitlines()
        if ":\t" in line
    )
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    uid_map = notebook.shell("cat /proc/self/uid_map").split()
    assert int(uid_map[1]) >= 3_000_000
    assert int(uid_map[2]) == 65536
    assert notebook.shell("id -u").strip() == "1000"


def test_limits_are_enforced_and_known(notebook: Notebook) -> None:
    metrics = notebook.person.api("GET", "/user/alice/api/metrics/v1").json()
    assert metrics["limits"]["memory"]["rss"] == 2 * 1024**3
    code = "import sys; sys.exit(0 if len(bytearray(3 * 1024**3)) else 1)"
    output = notebook.shell(f"python3 -c '{code}'; echo exit=$?")
    assert "exit=0" not in output
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        notices = notebook.person.api("GET", "/user/alice/taccuino/notices").json()["notices"]
        if any("memory" in notice["message"].lower() for notice in notices):
            return
        time.sleep(0.5)
    pytest.fail(f"the out-of-memory kill was not told: {notices}")


def test_the_workarea_has_a_quota(notebook: Notebook) -> None:
    size = int(notebook.shell("df --output=size -B1 /workarea | tail -1"))
    assert 8 * 1024**3 < size <= 10 * 1024**3


def test_no_secret_is_in_the_container(notebook: Notebook, instance) -> None:
    secrets = instance.secrets_of("alice")
    assert {"refresh_token", "client_secret", "storage_admin_secret"} <= set(secrets)
    script = """
import os, pathlib, sys
found = []
roots = ["/workarea/local", "/workarea/examples", "/home", "/tmp", "/run", "/etc", "/var", "/dev/shm",
         "/root", "/opt/taccuino/etc"]
blobs = {}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    for name in ("environ", "cmdline"):
        try:
            blobs[str(process / name)] = (process / name).read_bytes()
        except OSError:
            pass
for root in roots:
    for folder, _, names in os.walk(root):
        for name in names:
            path = pathlib.Path(folder, name)
            try:
                if path.is_file() and path.stat().st_size < 5_000_000:
                    blobs[str(path)] = path.read_bytes()
            except OSError:
                pass
needles = %r
print(len(blobs), [(label, where) for label, needle in needles.items()
      for where, blob in blobs.items() if needle.encode() in blob])
"""
    # The needles are sent reversed, so that the search does not find itself.
    reverse = {label: value[::-1] for label, value in secrets.items()}
    output = notebook.run(
        script.replace("%r", f"{{k: v[::-1] for k, v in {reverse!r}.items()}}")
    )
    count, found = output.strip().split(" ", 1)
    assert int(count) > 50
    assert found == "[]"
    environment = notebook.shell("env")
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert "AWS_ACCESS_KEY_ID" not in environment


def test_a_server_token_is_for_its_own_user_only(notebook: Notebook) -> None:
    output = notebook.run("""
import json, os, urllib.request, urllib.error
api, token = os.environ["JUPYTERHUB_API_URL"], os.environ["JUPYTERHUB_API_TOKEN"]
for method, path in [("GET", "/taccuino/credentials/bruno"), ("GET", "/users/bruno"),
                     ("GET", "/users"), ("POST", "/users/bruno/server"), ("DELETE", "/users/alice")]:
    request = urllib.request.Request(api + path, method=method, data=b"" if method == "POST" else None,
                                     headers={"Authorization": "token " + token})
    try:
        print(path, urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(path, error.code)
""")
    assert [line.split()[1] for line in output.splitlines()] != []
    assert all(line.split()[1] in ("403", "404") for line in output.splitlines()), output


@pytest.fixture(scope="class")
def bruno(instance):
    person = instance.person("bruno")
    person.stop()
    events = person.start(image="base", cpu=0.5, memory="1G")
    assert events[-1].get("ready"), events
    with Notebook(person) as notebook:
        yield notebook
    person.stop()


class TestTwoUsers:
    """What one user has is closed to another."""

    def test_the_other_ones_server(self, notebook: Notebook, bruno: Notebook) -> None:
        for path in ("api/contents", "api/kernels", "lab", "taccuino/notices"):
            answer = bruno.person.api("GET", f"/user/alice/{path}", allow_redirects=False)
            assert answer.status_code in (302, 403, 404), (path, answer.status_code)
        page = bruno.person.http.get(f"{bruno.person.url}/user/alice/lab", timeout=30)
        assert page.status_code in (403, 404), page.status_code

    def test_the_other_ones_bucket(self, notebook: Notebook, bruno: Notebook, instance) -> None:
        notebook.run("""
import boto3, os
boto3.client("s3").put_object(Bucket=os.environ["TACCUINO_BUCKET"], Key="secret", Body=b"alice")
print(os.environ["TACCUINO_BUCKET"], end="")
""")
        bucket = notebook.run("print(os.environ['TACCUINO_BUCKET'], end='')")
        for call in (
            f"get_object(Bucket={bucket!r}, Key='secret')",
            f"put_object(Bucket={bucket!r}, Key='x', Body=b'')",
            f"list_objects_v2(Bucket={bucket!r})",
            "put_object(Bucket=os.environ['TACCUINO_SCRATCH_BUCKET'], Key='alice/x', Body=b'')",
            "put_object(Bucket=os.environ['TACCUINO_SCRATCH_BUCKET'], Key='x', Body=b'')",
        ):
            with pytest.raises(KernelError, match="AccessDenied"):
                bruno.run(f"import boto3, os; boto3.client('s3').{call}")

    def test_scratch_is_shared_for_reading(self, notebook: Notebook, bruno: Notebook) -> None:
        notebook.shell("echo shared > cloud_storage/scratch/alice/hello.txt")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if "shared" in bruno.shell("cat cloud_storage/scratch/alice/hello.txt"):
                break
            time.sleep(0.5)
        else:
            pytest.fail("what alice put into scratch is not to be seen by bruno")
        output = bruno.shell("echo no > cloud_storage/scratch/alice/intruder.txt; echo exit=$?")
        assert "exit=0" not in output

    def test_the_network(self, notebook: Notebook, bruno: Notebook, instance) -> None:
        address = notebook.shell("hostname -I").split()[0]
        probe = (
            "import socket\n"
            "def reach(host, port):\n"
            "    try:\n"
            "        socket.create_connection((host, port), 3).close()\n"
            "        return True\n"
            "    except OSError:\n"
            "        return False\n"
        )
        assert notebook.run(probe + f"print(reach({address!r}, 8888))").strip() == "True"
        assert bruno.run(probe + f"print(reach({address!r}, 8888))").strip() == "False"
        port = instance.settings.port
        assert bruno.run(f"print(reach('taccuino-edge', {port}))").strip() == "True"
        with instance.listener() as other:
            assert bruno.run(f"print(reach('taccuino-edge', {other}))").strip() == "False"


def test_stop_start_and_what_is_kept(instance) -> None:
    person = instance.person("bruno")
    person.stop()
    person.start(image="base", cpu=1, memory="1G")
    with Notebook(person) as notebook:
        notebook.shell(
            "echo kept > local/kept.txt; echo kept > cloud_storage/bruno/kept.txt;"
            "echo gone > /tmp/gone.txt; echo gone > ~/gone.txt"
        )
    person.stop()
    until(lambda: not instance.leftovers("bruno"), 20, lambda: instance.leftovers("bruno"))
    person.start(image="base", cpu=1, memory="1G")
    with Notebook(person) as notebook:
        assert (
            notebook.shell("cat local/kept.txt cloud_storage/bruno/kept.txt") == "kept\nkept\n"
        )
        assert "No such file" in notebook.shell("cat /tmp/gone.txt")
        assert "No such file" in notebook.shell("cat ~/gone.txt")
    person.stop()


def test_a_hub_restart_keeps_the_server_and_its_connections(instance) -> None:
    person = instance.person("bruno")
    person.stop()
    person.start(image="base", cpu=1, memory="1G")
    with Notebook(person) as notebook:
        notebook.run("x = 41")
        instance.kill("hub")
        assert notebook.run("print(x + 1)").strip() == "42"
        instance.wait_until_ready()
        assert notebook.run("print(x + 2)").strip() == "43"
        servers = person.api("GET", "/users/bruno").json()["servers"]
        assert servers[""]["ready"] is True
        assert notebook.shell("oidc-token infncloud").count(".") == 2
    person.stop()


def test_the_edge_restarts_with_its_routes(instance) -> None:
    person = instance.person("bruno")
    person.stop()
    person.start(image="base", cpu=1, memory="1G")
    instance.kill("edge")
    instance.wait_until_ready()
    assert person.api("GET", "/user/bruno/api/status").status_code == 200
    person.stop()


@pytest.mark.parametrize("token", ["", "x", "0" * 32, "../..", "a" * 5000])
def test_wrong_tokens(instance, token: str) -> None:
    headers = {"Authorization": f"token {token}"}
    for path in ("/users", "/taccuino/token", "/taccuino/credentials/alice"):
        method = "POST" if path.endswith("/token") else "GET"
        answer = requests.request(
            method, f"{instance.url}/hub/api{path}", headers=headers, timeout=9
        )
        assert answer.status_code in (401, 403), answer.text
        assert "Traceback" not in answer.text
        assert json.loads(answer.text)["message"]
