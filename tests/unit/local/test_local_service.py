from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from taccuino.local.order import Task, run_in_order
from taccuino.local.processes import is_program
from taccuino.local.service import Service


def test_the_fingerprint_follows_what_a_restart_depends_on(tmp_path: Path) -> None:
    file = tmp_path / "edge.cfg"
    service = Service(name="edge", command=("haproxy",), files=(file,))
    absent = service.fingerprint()
    file.write_text("a")
    first = service.fingerprint()
    assert first == service.fingerprint()
    changes = [
        replace(service, command=("haproxy", "-d")),
        replace(service, environment={"A": "1"}),
        replace(service, configuration="x"),
        replace(service, directory=tmp_path),
    ]
    digests = {absent, first, *(change.fingerprint() for change in changes)}
    file.write_text("b")
    assert len(digests | {service.fingerprint()}) == 7
    assert replace(service, ready_timeout=1).fingerprint() == service.fingerprint()


@pytest.mark.parametrize(
    ("line", "command", "same"),
    [
        (["ceph-mon", "-f"], ["ceph-mon", "-f"], True),
        (["/usr/bin/ceph-mon", "-f"], ["ceph-mon", "-f"], True),
        (["/x/python3", "/x/canaille", "run"], ["/x/canaille", "run"], True),
        (["/usr/bin/conmon", "-b", "x"], ["podman", "system"], False),
        (["python", "-m", "other"], ["python", "-m", "jupyterhub"], False),
        (["haproxy"], ["haproxy", "-db"], False),
        (["haproxy"], [], False),
        ([], ["haproxy"], False),
    ],
)
def test_a_service_is_told_from_its_children(line, command, same: bool) -> None:
    assert is_program(line, command) is same


def test_tasks_wait_for_each_other_and_run_together() -> None:
    order: list[str] = []
    both = threading.Barrier(2, timeout=10)

    def note(name: str, *, meet: bool = False):
        def action(_):
            if meet:
                both.wait()
            order.append(name)

        return action

    run_in_order(
        [
            Task("hub", note("hub"), after=("iam", "mon", "not-here")),
            Task("iam", note("iam", meet=True)),
            Task("mon", note("mon", meet=True)),
        ]
    )
    assert order[-1] == "hub"
    assert len(order) == 3


def test_a_failure_ends_what_is_under_way_and_begins_nothing_more() -> None:
    done: list[str] = []
    told = threading.Event()

    def wait(given_up) -> None:
        while not given_up():
            told.wait(0.01)
        done.append("gave up")

    def fail(_) -> None:
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        run_in_order(
            [
                Task("wait", wait),
                Task("fail", fail),
                Task("later", lambda _: done.append("later"), after=("fail",)),
            ]
        )
    assert done == ["gave up"]


def test_a_circle_is_refused() -> None:
    tasks = [Task("a", lambda _: None, after=("b",)), Task("b", lambda _: None, after=("a",))]
    with pytest.raises(ValueError, match="a, b"):
        run_in_order(tasks)
