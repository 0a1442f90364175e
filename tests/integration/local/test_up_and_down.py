"""The single machine: brought up twice, robbed of its supervisor, shared by two instances."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from support.instance import Instance, free_port_block
from support.notebook import Notebook
from taccuino.local.processes import instance_processes

pytestmark = pytest.mark.integration


def pids(instance: Instance) -> dict[str, int]:
    return {service["name"]: service["pid"] for service in instance.status["services"]}


def test_a_second_up_changes_nothing(instance: Instance) -> None:
    before = pids(instance)
    out = instance.run("up")
    assert pids(instance) == before
    assert instance.url in out
    assert instance.accounts["alice"]["password"] in out


def test_only_the_hub_is_restarted_when_its_settings_change(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pids(instance)
    file = tmp_path / "taccuino.toml"
    file.write_text(f'port = {instance.settings.port}\n[hub]\nannouncement = "Maintenance"\n')
    instance.run("up", settings=file)
    changed = {name for name, pid in pids(instance).items() if pid != before[name]}
    instance.run("up")
    assert changed == {"hub"}


def test_up_mends_what_a_killed_supervisor_left(instance: Instance) -> None:
    supervisor = int((instance.state_dir / "supervisor/supervisor.pid").read_text())
    orphan = instance.service("hub")
    os.kill(supervisor, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(supervisor)] if psutil.pid_exists(supervisor) else [])
    assert {service["state"] for service in instance.status["services"]} == {"stopped"}
    instance.run("up")
    status = instance.status
    assert status["ready"]
    assert {service["state"] for service in status["services"]} == {"running"}
    assert not orphan.is_running()


def test_up_after_everything_was_killed(instance: Instance) -> None:
    """As when the machine loses its power: services, uploads and servers end at once."""
    person = instance.person("bruno")
    person.stop()
    person.start(image="base")
    with Notebook(person) as notebook:
        notebook.shell("echo kept > local/power.txt; echo kept > cloud_storage/bruno/power.txt")
    supervisor = int((instance.state_dir / "supervisor/supervisor.pid").read_text())
    everything = {psutil.Process(pid) for pid in (supervisor, *pids(instance).values())}
    names = set()
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if _names(process, instance.state_dir):  # rclone, the containers' monitors
                everything |= {process, *process.children(recursive=True)}
                names.add(process.name())
    assert {"conmon", "rclone", "haproxy", "radosgw"} <= names, names
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with another
            process.kill()
    psutil.wait_procs(everything, timeout=10)
    passwords = instance.accounts
    instance.run("up")
    assert instance.status["ready"]
    assert instance.accounts == passwords
    person.stop()
    events = person.start(image="base")
    assert events[-1].get("ready"), events
    with Notebook(person) as notebook:
        kept = notebook.shell("cat local/power.txt cloud_storage/bruno/power.txt")
        assert kept == "kept\nkept\n"
    person.stop()
    assert instance.leftovers("bruno") == []


def test_a_foreign_port_is_named(instance: Instance, tmp_path: Path) -> None:
    other = Instance(tmp_path / "state", instance.settings.port)
    out = other.run("up", check=False)
    assert f"{instance.settings.port} is in use by haproxy" in out
    assert "Traceback" not in out
    assert not other.state_dir.exists()


def _down_without_its_supervisor(instance: Instance) -> None:
    """The hub goes first all the same: nobody starts a server behind its back."""
    hub = instance.service("hub")
    os.kill(int((instance.state_dir / "supervisor/supervisor.pid").read_text()), signal.SIGKILL)
    said = instance.run("down").splitlines()
    assert "hub           stopped" in " ".join(said)
    assert not hub.is_running()
    assert not [p for p, _ in instance_processes(instance.state_dir)]


def test_two_instances_live_side_by_side(instance: Instance, tmp_path_factory) -> None:
    state_dir = Path("/tmp") / f"tc-second-{os.getpid()}"
    second = Instance(state_dir, free_port_block())
    try:
        second.run("up", "--no-image")
        assert second.status["ready"]
        assert instance.status["ready"]
        assert not set(pids(second).values()) & set(pids(instance).values())
        _down_without_its_supervisor(second)
    finally:
        second.run("down", "--purge")
    assert not state_dir.exists()
    assert instance.status["ready"]
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if _names(p, state_dir)]
    assert left == []


def _names(process: psutil.Process, state_dir: Path) -> bool:
    return any(str(state_dir) in argument for argument in process.info["cmdline"] or ())
