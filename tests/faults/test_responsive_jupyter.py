"""The object storage hangs: Jupyter, its kernels and every other directory go on answering."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person

pytestmark = pytest.mark.integration

FOLDER = "cloud_storage/alice/not-listed-yet"


@contextlib.contextmanager
def hanging(instance: Instance) -> Iterator[None]:
    """The object storage takes connections and answers nothing."""
    process = instance.service("radosgw")
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.fixture
def alice(instance: Instance) -> Iterator[Person]:
    """A person whose server runs, with a folder in the bucket that the mount has not listed."""
    person = instance.person("alice")
    person.stop()
    assert person.start()[-1].get("ready")
    with Notebook(person) as notebook:
        notebook.run(f"""
import boto3, os
s3 = boto3.client("s3")
key = {FOLDER!r}.removeprefix("cloud_storage/alice/") + "/{{}}.txt"
for number in range(5):
    s3.put_object(Bucket=os.environ["TACCUINO_BUCKET"], Key=key.format(number), Body=b"x")
import time
end = time.monotonic() + 15
shown, folder = os.path.split("/workarea/" + {FOLDER!r})
while folder not in os.listdir(shown) and time.monotonic() < end:
    time.sleep(0.2)
print(folder in os.listdir(shown))
""")
    yield person
    person.stop()


def timed(person: Person, path: str, limit: float = 60) -> tuple[float, requests.Response]:
    began = time.monotonic()
    answer = person.api("GET", f"/user/alice/{path}", timeout=limit)
    return time.monotonic() - began, answer


def test_jupyter_answers_while_a_directory_does_not(instance: Instance, alice: Person) -> None:
    slowest: dict[str, float] = {}
    with Notebook(alice) as notebook, hanging(instance):
        listing: list[tuple[float, requests.Response]] = []
        ask = threading.Thread(
            target=lambda: listing.append(timed(alice, f"api/contents/{FOLDER}"))
        )
        ask.start()
        while ask.is_alive():
            for path in (
                "api/status",
                "api/contents/local",
                "api/terminals",
                "taccuino/notices",
            ):
                took, answer = timed(alice, path)
                assert answer.status_code == 200, answer.text
                slowest[path] = max(slowest.get(path, 0), took)
            began = time.monotonic()
            assert notebook.run("print(6 * 7)") == "42\n"
            slowest["a cell"] = max(slowest.get("a cell", 0), time.monotonic() - began)
        took, answer = listing[0]
        print(f"the listing took {took:.1f} s: {answer.status_code} {answer.text[:200]}")
        print({path: f"{seconds:.2f} s" for path, seconds in slowest.items()})
        assert took < 20
        assert answer.status_code == 503, answer.text
        assert "object storage does not answer" in answer.json()["message"]
        assert max(slowest.values()) < 1, slowest

        # A kernel beside a notebook that lies there starts as well, in the workarea.
        began = time.monotonic()
        answer = alice.api(
            "POST",
            "/user/alice/api/sessions",
            json={
                "path": f"{FOLDER}/new.ipynb",
                "name": "new.ipynb",
                "type": "notebook",
                "kernel": {"name": "python3"},
            },
        )
        print(f"the session took {time.monotonic() - began:.1f} s")
        assert answer.status_code == 201, answer.text
        assert time.monotonic() - began < 20
        alice.api("DELETE", f"/user/alice/api/sessions/{answer.json()['id']}")

    deadline = time.monotonic() + 60
    while (answer := timed(alice, f"api/contents/{FOLDER}")[1]).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)
    assert len(answer.json()["content"]) == 5
