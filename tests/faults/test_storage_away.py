"""The object storage is away: servers start without it, say so, and get it when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.ground import until
from support.instance import Instance
from support.notebook import Notebook
from support.person import Person

pytestmark = pytest.mark.integration


def notices(person: Person) -> list[dict]:
    """What JupyterLab shows."""
    answer = person.api("GET", f"/user/{person.username}/taccuino/notices")
    assert answer.status_code == 200, answer.text
    return answer.json()["notices"]


def of_the_storage(person: Person) -> list[str]:
    return [told["message"] for told in notices(person) if told["banner"]]


# In a new instance the administrator has no bucket yet: it is made when the storage is back.
@pytest.mark.parametrize(
    ("away", "username"), [(Instance.without, "ada"), (Instance.hanging, "alice")]
)
def test_a_start_without_the_object_storage(
    instance: Instance, away: Callable, username: str
) -> None:
    person = instance.person(username)
    person.stop()
    person.token  # noqa: B018 - got while all is well
    try:
        with away(instance, "radosgw"):
            began = time.monotonic()
            events = person.start()
            assert events[-1].get("ready"), events
            assert time.monotonic() - began < 40
            # A start of the first moments may not know yet: then JupyterLab tells it, below.
            for fault in [e["message"] for e in events if e.get("level") == "warning"]:
                told = "cloud_storage" in fault and "can't be reached" in fault
                # Whether another site has newer files in the workarea is not known either.
                assert told or "could not be found out" in fault, fault
                assert "Traceback" not in fault
            with Notebook(person) as notebook:
                written = notebook.shell(f"echo lost > cloud_storage/{username}/x; echo $?")
                assert written.splitlines()[-1] != "0", "it must not look as if it were kept"
                assert notebook.shell("echo kept > local/x && cat local/x") == "kept\n"
            until(
                lambda: "can't be reached" in "".join(of_the_storage(person)),
                40,
                lambda: str(notices(person)),
            )
        instance.wait_until_ready()
        with Notebook(person) as notebook:
            until(
                lambda: (
                    notebook.shell(f"echo x > cloud_storage/{username}/x; echo $?") == "0\n"
                ),
                60,
                lambda: notebook.shell("ls -l cloud_storage"),
            )
        until(lambda: not of_the_storage(person), 60, lambda: str(notices(person)))
    finally:
        person.stop()


def test_the_object_storage_goes_and_comes_back_under_a_server(instance: Instance) -> None:
    person = instance.person("alice")
    person.stop()
    try:
        assert person.start()[-1].get("ready")
        with Notebook(person) as notebook:
            notebook.run("""
import boto3, os
file = open("/workarea/cloud_storage/alice/later.txt", "w")
s3 = boto3.client("s3")
""")
            assert of_the_storage(person) == []
            with instance.without("radosgw"):
                notebook.run("file.write('written meanwhile'); file.close()")
                until(lambda: of_the_storage(person), 60, lambda: str(notices(person)))
            until(lambda: not of_the_storage(person), 60, lambda: str(notices(person)))
            bucket = "Bucket=os.environ['TACCUINO_BUCKET']"
            read = f"print(s3.get_object({bucket}, Key='later.txt')['Body'].read())"
            assert "written meanwhile" in notebook.run(read)
    finally:
        person.stop()
