"""A service on an IAM, an object storage and an engine that others run: here, another instance's.

The engine is that instance's podman, asked in Docker's words. The IAM's administrator registers
the client and makes a group; the storage's hands out keys, or makes the role by hand.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config

from support.instance import Instance, free_port_block
from support.notebook import Notebook
from support.person import Person
from taccuino.storage.issuer import published_issuer
from taccuino.storage.policies import permission_policy, policy_text, trust_policy

pytestmark = pytest.mark.integration

CLIENT, GROUP = "the-other-service", "other-notebooks"

IAM_ADMINISTRATOR = """
import datetime, json, sys
from pathlib import Path
from canaille.app import models
from canaille.backends import Backend
from taccuino.local.iam import client_registration
from taccuino.local.iam_server import make_app
from taccuino.settings import Settings
order = json.load(sys.stdin)
app = make_app(Settings.load(Path(order["settings"])))
with app.app_context():
    find = Backend.instance.get
    for model, name, value in ((models.Client, "client_id", order["client"]),
                               (models.Group, "display_name", order["group"])):
        if there := find(model, **{name: value}):
            Backend.instance.delete(there)
    if order["url"]:
        registration = client_registration(
            name="Other", url=order["url"], secret=order["secret"])
        registration["client_id"] = order["client"]
        now = datetime.datetime.now(datetime.UTC)
        client = models.Client(**registration, client_id_issued_at=now)
        client.audience = [client]
        Backend.instance.save(client)
        alice = find(models.User, user_name="alice")
        Backend.instance.save(
            models.Group(display_name=order["group"], members=[alice], owner=alice))
"""


def administer_iam(instance: Instance, url: str = "", secret: str = "") -> None:
    """Register the other service's client and make its group; with no URL, remove both."""
    order = {
        "settings": str(instance.state_dir / "settings.json"),
        "client": CLIENT,
        "group": GROUP,
        "url": url,
        "secret": secret,
    }
    subprocess.run(
        [sys.executable, "-c", IAM_ADMINISTRATOR],
        input=json.dumps(order),
        text=True,
        check=True,
        timeout=60,
    )


class OtherService(Instance):
    """A service that runs no part of its own that the operator has already."""

    def __init__(self, state_dir: Path, owner: Instance) -> None:
        self.owner = owner
        self.file = state_dir.with_suffix(".toml")
        self.secret = state_dir.with_suffix(".secret")
        super().__init__(state_dir, free_port_block())
        self.port = int(self._environment["TACCUINO_PORT"])

    def up(self, storage: dict[str, Any]) -> None:
        owner = self.owner.settings
        sections: dict[str, dict[str, Any]] = {
            "iam": {
                "issuer": f"{owner.iam.issuer}/",
                "client_id": CLIENT,
                "client_secret_file": str(self.secret),
                "allowed_groups": [f"/{GROUP}"],
                "admin_groups": ["/taccuino-admins"],
            },
            "storage": {"endpoint": owner.storage.endpoint, **storage},
            "engine": {"kind": "docker", "socket": str(owner.engine.socket)},
            "snapshots": {"key_file": str(owner.snapshots.key_file)},
        }
        lines = []
        for name, values in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        self.file.write_text("\n".join(lines) + "\n")
        self.run("up", "--no-image", settings=self.file)

    def person(self, username: str) -> Person:
        return Person(self.url, username, self.owner.accounts[username]["password"])


@pytest.fixture(scope="module")
def other(instance: Instance) -> Iterator[OtherService]:
    state_dir = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))
    other = OtherService(state_dir, instance)
    secret = secrets.token_urlsafe(24)
    other.secret.touch(mode=0o600)
    other.secret.write_text(f"{secret}\n")
    administer_iam(instance, f"http://localhost:{other.port}", secret)
    try:
        other.up(
            {
                "admin_credentials_file": str(
                    instance.state_dir / "secrets/storage-admin.json"
                ),
                "role_arn": "arn:aws:iam:::role/other-{username}",
                "bucket": "other-{username}",
                "scratch_bucket": "other-scratch",
            }
        )
        yield other
    finally:
        administer_iam(instance)
        said = other.run("down", "--purge", check=False)
        for path in (other.file, other.secret):
            path.unlink(missing_ok=True)
        if state_dir.exists() and not any(state_dir.iterdir()):
            shutil.rmtree(state_dir)
        assert not state_dir.exists(), f"the other service was not taken down:\n{said}"


def admin_client(instance: Instance, service: str) -> Any:
    keys = json.loads((instance.state_dir / "secrets/storage-admin.json").read_text())
    return boto3.client(
        service,
        endpoint_url=instance.settings.storage.endpoint,
        region_name="default",
        aws_access_key_id=keys["access_key"],
        aws_secret_access_key=keys["secret_key"],
        config=Config(s3={"addressing_style": "path"}),
    )


def objects(instance: Instance, bucket: str) -> set[str]:
    answer = admin_client(instance, "s3").list_objects_v2(Bucket=bucket)
    return {entry["Key"] for entry in answer.get("Contents", [])}


USE = """
import boto3, os, pathlib, time
s3, bucket = boto3.client("s3"), os.environ["TACCUINO_BUCKET"]
storage = pathlib.Path("/workarea/cloud_storage")
(storage / "alice/from-the-mount").write_text("ciao")
(storage / "scratch/alice/shared").write_text("ciao")
s3.put_object(Bucket=bucket, Key="from-boto3", Body=b"ciao")
end = time.monotonic() + 20
wanted = [(bucket, "from-the-mount"), (os.environ["TACCUINO_SCRATCH_BUCKET"], "alice/shared")]
while wanted and time.monotonic() < end:
    try:
        s3.head_object(Bucket=wanted[0][0], Key=wanted[0][1])
        wanted.pop(0)
    except s3.exceptions.ClientError:
        time.sleep(0.2)
seen = storage / "alice/from-boto3"
while not seen.exists() and time.monotonic() < end:
    time.sleep(0.2)
shown = sorted(name for name in os.listdir(storage) if name[0] != ".")
print(bucket, wanted, shown, seen.read_text())
"""


def use_storage(person: Person) -> str:
    events = person.start(image="base", cpu=1, memory="1G")
    assert events[-1].get("ready"), events
    assert [event for event in events if event.get("level") == "warning"] == []
    try:
        with Notebook(person) as notebook:
            assert notebook.shell("oidc-token infncloud").count(".") == 2
            return notebook.run(USE).strip()
    finally:
        person.stop()


def test_only_what_is_missing_is_run(other: OtherService) -> None:
    status = other.status
    assert status["ready"]
    assert {s["name"] for s in status["services"]} == {
        "edge",
        "mount-plane",
        "storage-pages",
        "front-end",
        "hub",
    }
    assert status["accounts"] == []
    checks = requests.get(f"{other.url}/hub/ready", timeout=20).json()["checks"]
    assert {check["state"] for check in checks.values()} == {"ok"}
    assert other.run("check", settings=other.file).strip() == "no faults"


def test_the_groups_decide_who_comes_in(other: OtherService) -> None:
    refused = other.person("bruno").login()
    assert refused.status_code == 403
    assert GROUP in refused.text
    assert other.person("alice").api("GET", "/user").json()["admin"] is False
    assert other.person("ada").api("GET", "/user").json()["admin"] is True


def test_storage_with_the_administrators_keys(instance: Instance, other: OtherService) -> None:
    found = use_storage(other.person("alice"))
    assert found == "other-alice [] ['alice', 'scratch'] ciao"
    assert {"from-the-mount", "from-boto3"} <= objects(instance, "other-alice")
    assert "alice/shared" in objects(instance, "other-scratch")
    # Both services' tokens are trusted, each for its own roles.
    provider = admin_client(instance, "iam").list_open_id_connect_providers()
    [arn] = [entry["Arn"] for entry in provider["OpenIDConnectProviderList"]]
    there = admin_client(instance, "iam").get_open_id_connect_provider(
        OpenIDConnectProviderArn=arn
    )
    assert set(there["ClientIDList"]) >= {CLIENT, "taccuino"}


def test_two_services_share_their_users_roles(instance: Instance, other: OtherService) -> None:
    """As two sites do: each has a client of its own, and both the same names in the storage."""
    other.up({"admin_credentials_file": str(instance.state_dir / "secrets/storage-admin.json")})
    for person in (instance.person("alice"), other.person("alice")):
        assert use_storage(person) == "alice [] ['alice', 'scratch'] ciao"
    # Neither has shut the other's tokens out.
    role = admin_client(instance, "iam").get_role(RoleName="taccuino-alice")["Role"]
    trust = json.dumps(role["AssumeRolePolicyDocument"])
    assert CLIENT in trust
    assert f'"{instance.settings.iam.client_id}"' in trust


def test_storage_without_the_administrators_keys(
    instance: Instance, other: OtherService
) -> None:
    iam, role, scratch = admin_client(instance, "iam"), "by-hand-alice", "by-hand-scratch"
    assert instance.settings.iam.issuer
    issuer = published_issuer(instance.settings.iam.issuer).issuer
    trust = trust_policy(issuer, "alice", [CLIENT])
    permission = permission_policy("own-alice", scratch, "alice/", may_create=True)
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy_text(trust))
    iam.put_role_policy(
        RoleName=role, PolicyName="notebooks", PolicyDocument=policy_text(permission)
    )
    admin_client(instance, "s3").create_bucket(Bucket=scratch)
    try:
        other.up(
            {
                "role_arn": "arn:aws:iam:::role/by-hand-{username}",
                "bucket": "own-{username}",
                "scratch_bucket": scratch,
            }
        )
        found = use_storage(other.person("alice"))
        assert found == "own-alice [] ['alice', 'scratch'] ciao"
        assert "alice/shared" in objects(instance, scratch)
        # Who has no role reads why, and works without the object storage.
        ada = other.person("ada")
        events = ada.start(image="base", cpu=1, memory="1G")
        told = [event["message"] for event in events if event.get("level") == "warning"]
        assert events[-1].get("ready"), events
        assert any("cloud_storage" in message for message in told), events
        ada.stop()
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="notebooks")
        iam.delete_role(RoleName=role)
