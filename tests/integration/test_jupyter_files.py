"""Jupyter's contents API on the real mounts: what it does, and where its checkpoints lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person

pytestmark = pytest.mark.integration

BUCKET = "cloud_storage/alice"


@pytest.fixture(scope="module")
def alice(instance: Instance) -> Iterator[Person]:
    person = instance.person("alice")
    person.stop()
    assert person.start()[-1].get("ready")
    yield person
    person.stop()


def contents(person: Person, method: str, at: str, **body: Any) -> requests.Response:
    address = f"/user/alice/api/contents/{at}"
    return person.api(method, address, json=body) if body else person.api(method, address)


def notebook_with(source: str) -> dict[str, Any]:
    cell = {
        "cell_type": "code",
        "id": "one",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": source,
    }
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return {"type": "notebook", "format": "json", "content": content}


def test_checkpoints_of_the_bucket_stay_out_of_it(alice: Person) -> None:
    path, renamed = f"{BUCKET}/kept/first.ipynb", f"{BUCKET}/kept/second.ipynb"
    with Notebook(alice) as kernel:
        kernel.shell("rm -rf cloud_storage/alice/kept; mkdir -p cloud_storage/alice/kept")
        assert contents(alice, "PUT", path, **notebook_with("1")).status_code == 201
        (made,) = contents(alice, "GET", f"{path}/checkpoints").json()
        assert contents(alice, "PUT", path, **notebook_with("2")).status_code == 200
        # Signed as it was saved: its outputs may show.
        cell = contents(alice, "GET", path).json()["content"]["cells"][0]
        assert (cell["source"], cell["metadata"]["trusted"]) == ("2", True)
        assert contents(alice, "PATCH", path, path=renamed).status_code == 200
        restored = contents(alice, "POST", f"{renamed}/checkpoints/{made['id']}")
        assert restored.status_code == 204, restored.text
        back = contents(alice, "GET", renamed).json()["content"]["cells"][0]["source"]
        assert back == "1"
        assert kernel.shell("ls -A cloud_storage/alice/kept") == "second.ipynb\n"
        there = kernel.shell("find local/.checkpoints -type f -path '*kept*'")
        assert there == "local/.checkpoints/cloud_storage/alice/kept/second-checkpoint.ipynb\n"
        assert contents(alice, "DELETE", renamed).status_code == 204
        assert kernel.shell("find local/.checkpoints -type f -path '*kept*'") == ""
        # Elsewhere they are where Jupyter has them.
        assert contents(alice, "PUT", "local/a.ipynb", **notebook_with("1")).status_code < 300
        assert "a-checkpoint.ipynb" in kernel.shell("ls local/.ipynb_checkpoints")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", f"{BUCKET}/none", {}, 404, "does not exist"),
        ("GET", "../etc/passwd", {}, 404, ""),
        ("GET", "local/.checkpoints", {}, 404, ""),
        ("PUT", f"{BUCKET}/new-folder", {"type": "directory"}, 201, "new-folder"),
        ("POST", BUCKET, {"copy_from": "examples/cloud_storage.ipynb"}, 201, "cloud_storage"),
        ("PATCH", f"{BUCKET}/none", {"path": f"{BUCKET}/other"}, 404, ""),
        ("DELETE", f"{BUCKET}/none", {}, 404, ""),
        (
            "PUT",
            "cloud_storage/scratch/mine.txt",
            {"type": "file", "format": "text", "content": "x"},
            403,
            "read-only for you",
        ),
    ],
)
def test_calls_and_their_errors(
    alice: Person, method: str, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = contents(alice, method, path, **body)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert "Traceback" not in answer.text
