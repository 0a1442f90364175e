"""The spare kernel as a real process; in place of IPython's, a launcher that tells what it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taccuino.server import spare_kernel
from taccuino.server.spare_kernel import decisive_changes
from taccuino.server.spares import Spares, spare_command

LIMIT = 30.0
LAUNCHER = """
import json, os, sys, threading
import ipykernel.kernelapp
told = {
    "pid": os.getpid(), "argv": sys.argv, "orig_argv": sys.orig_argv, "cwd": os.getcwd(),
    "path": sys.path[0], "env": dict(os.environ), "name": __name__,
    "from_the_spare": ipykernel.kernelapp.IMPORTED_BY.endswith("spare_kernel.py"),
    "stdin": os.read(0, 1).decode(), "leader": os.getsid(0) == os.getpid(),
    "nice": [os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir("/proc/self/task")],
    "command_line": open("/proc/self/cmdline").read().rstrip(chr(0)).split(chr(0)),
}
with open(sys.argv[2] + ".part", "w") as file:
    json.dump(told, file)
os.rename(sys.argv[2] + ".part", sys.argv[2])
"""
KERNELAPP = """
import os, sys, time
IMPORTED_BY = sys.argv[0]
os.environ["SET_BY_AN_IMPORT"] = "yes"
sys.stderr.write("a warning that nobody wants")
"""


class Rig:
    """Where the launcher's double lies, and the calls that Jupyter makes."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.spares = directory, Spares()
        self.modules = directory / "modules"
        (self.modules / "ipykernel").mkdir(parents=True)
        (self.modules / "ipykernel/__init__.py").touch()
        (self.modules / "ipykernel_launcher.py").write_text(LAUNCHER)
        self.imported = directory / "imported"
        self.import_does("")
        self.env = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "PYTHONPATH": str(self.modules),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TACCUINO_USERNAME": "nobody yet",
        }
        self.told = directory / "told.json"
        self.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", str(self.told)]
        self.notebooks = directory / "notebooks"
        self.notebooks.mkdir()

    def import_does(self, code: str) -> None:
        (self.modules / "ipykernel/kernelapp.py").write_text(
            KERNELAPP + f"open({str(self.imported)!r}, 'w')\n{code}\n"
        )

    def prepare(self) -> int:
        """A spare that has done its imports; its pid."""
        self.spares.prepare(self.argv, self.env, str(self.directory))
        spare = self.spares._spare
        assert spare is not None
        status = Path(f"/proc/{spare.pid}/status")
        wait_for(self.imported.exists, "a spare that imports")
        wait_for(lambda: "Threads:\t1\n" in status.read_text(), "the end of its imports")
        return spare.pid

    def take(self, **env: str) -> subprocess.Popen[bytes] | None:
        return self.spares.take(self.argv, {**self.env, **env}, str(self.notebooks))

    def kernel(self, **env: str) -> dict[str, Any]:
        """What the kernel says of itself that is made of the spare."""
        spare = self.take(**env)
        assert spare is not None
        assert spare.wait(LIMIT) == 0
        return dict(json.loads(self.told.read_text()))


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"waited {LIMIT} s in vain for {what}"
        time.sleep(0.01)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.spares.release()


def test_it_becomes_the_kernel_that_is_ordered(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    pid = rig.prepare()
    told = rig.kernel(TACCUINO_USERNAME="alice", JPY_SESSION_NAME="a.ipynb")
    launcher = str(rig.modules / "ipykernel_launcher.py")
    assert told == {
        "pid": pid,
        "from_the_spare": True,
        "name": "__main__",
        "argv": [launcher, *rig.argv[3:]],
        "orig_argv": rig.argv,
        "command_line": rig.argv,
        "cwd": str(rig.notebooks),
        "path": str(rig.notebooks),
        "stdin": "",
        "leader": True,
        "nice": [0],
        "env": {
            **rig.env,
            "TACCUINO_USERNAME": "alice",
            "JPY_SESSION_NAME": "a.ipynb",
            "JPY_PARENT_PID": str(os.getpid()),
            "SET_BY_AN_IMPORT": "yes",
        },
    }
    assert capfd.readouterr().err == ""


def test_imports_have_the_lowest_priority(rig: Rig) -> None:
    """The thread's alone: a process could not raise its own again."""
    rig.import_does("while True: time.sleep(0.01)")
    rig.spares.prepare(rig.argv, rig.env, str(rig.directory))
    spare = rig.spares._spare
    assert spare is not None
    wait_for(rig.imported.exists, "a spare that imports")
    tasks = Path(f"/proc/{spare.pid}/task").iterdir()
    assert sorted(os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks) == [0, 19]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("variable", "another LANG"),
        ("installed", "packages were installed meanwhile"),
        ("slow", "it was not ready"),
        ("broken", "ZeroDivisionError"),
        ("thread", "its imports left a thread behind"),
    ],
)
def test_in_doubt_it_starts_the_plain_way(
    rig: Rig, capfd: pytest.CaptureFixture[str], change: str, words: str
) -> None:
    env = {"LANG": "de_DE.UTF-8"} if change == "variable" else {}
    # By the launcher's own import, which comes later, all is well again.
    again = f"os.path.exists({str(rig.imported)!r} + '-again') or "
    mark = f"open({str(rig.imported)!r} + '-again', 'w') and "
    slow, broken = f"{again}({mark}time.sleep(600))", f"{again}({mark}1 / 0)"
    thread = "import threading; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    rig.import_does({"slow": slow, "broken": broken, "thread": thread}.get(change, ""))
    if change in ("slow", "thread"):
        rig.spares.prepare(rig.argv, rig.env, str(rig.directory))
        wait_for(rig.imported.exists, "a spare that imports")
    else:
        rig.prepare()
    spare = rig.spares._spare
    assert spare is not None
    if change == "installed":
        (rig.modules / "newer.py").touch()
    told = rig.kernel(**env)
    assert (told["pid"], told["from_the_spare"]) == (spare.pid, False)
    assert (told["cwd"], told["path"]) == (str(rig.notebooks), str(rig.notebooks))
    assert told["command_line"] == rig.argv
    assert f"this kernel starts the plain way: {words}" in capfd.readouterr().err


def test_a_spare_that_was_killed_is_not_handed_out(rig: Rig) -> None:
    os.kill(rig.prepare(), signal.SIGKILL)
    wait_for(lambda: rig.spares.due, "a spare that is due")
    assert rig.take() is None
    rig.prepare()
    assert rig.kernel()["from_the_spare"]


def test_one_is_handed_out_once_and_for_the_same_interpreter(rig: Rig) -> None:
    pid = rig.prepare()
    other = ["/opt/conda/bin/python", *rig.argv[1:]]
    assert rig.spares.take(other, rig.env, "/") is None
    assert rig.spares.take([sys.executable, "-m", "xeus"], rig.env, "/") is None
    assert rig.kernel()["pid"] == pid
    assert rig.take() is None


def test_none_is_due_right_after_a_start(rig: Rig) -> None:
    assert rig.spares.due
    rig.spares.rest()
    assert not rig.spares.due


@pytest.mark.parametrize("path", ["", "lib", "/opt/lib:lib", "/opt/lib:"])
def test_modules_that_are_found_by_a_relative_path(rig: Rig, path: str) -> None:
    """Then a kernel is another one in each directory, and there can be no spare."""
    rig.spares.prepare(rig.argv, {**rig.env, "PYTHONPATH": path}, str(rig.directory))
    assert (rig.spares._spare is None) == bool(path)
    assert rig.spares.due is False


def test_it_ends_with_its_server(rig: Rig) -> None:
    """Killed at once, as the kernel does it; nobody could tell the spare."""
    program = (
        "import sys, json, time\n"
        "from taccuino.server.spares import Spares\n"
        "argv, env, cwd = json.loads(sys.argv[1])\n"
        "spares = Spares(); spares.prepare(argv, env, cwd)\n"
        "print(spares._spare.pid, flush=True); time.sleep(600)\n"
    )
    order = json.dumps([rig.argv, rig.env, str(rig.directory)])
    with subprocess.Popen(
        [sys.executable, "-c", program, order], stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        spare = Path(f"/proc/{int(server.stdout.readline())}")
        wait_for(rig.imported.exists, "a spare that imports")
        server.kill()
    wait_for(lambda: gone(spare), "the end of the spare")


def gone(process: Path) -> bool:
    """Whether it ended; nobody may be there to take its exit code."""
    try:
        return ") Z " in (process / "stat").read_text()
    except OSError:
        return True


@pytest.mark.parametrize(
    ("argv", "interpreter"),
    [
        ("python -m ipykernel_launcher -f x", ["python"]),
        (
            "python -Xfrozen_modules=off -m ipykernel_launcher -f x",
            ["python", "-Xfrozen_modules=off"],
        ),
        ("python -m ipykernel -f x", None),
        (
            "python -X dev -m ipykernel_launcher -f x",
            None,
        ),  # an option's argument: not understood
        ("python ipykernel_launcher -f x", None),
        ("-m ipykernel_launcher", None),
        ("R --slave -e IRkernel::main() --args x", None),
        ("conda run -n a python -m ipykernel_launcher -f x", None),
        ("", None),
    ],
)
def test_which_kernels_there_can_be_a_spare_of(
    argv: str, interpreter: list[str] | None
) -> None:
    command = spare_command(argv.split())
    assert (command and command[:-2]) == interpreter
    if command:
        assert command[-2] == spare_kernel.__file__


@pytest.mark.parametrize(
    ("started", "wanted", "words"),
    [
        ({}, {}, ""),
        ({"A": "1"}, {"A": "1", "JPY_SESSION_NAME": "n", "AWS_REGION": "x"}, ""),
        ({"TACCUINO_USERNAME": "a"}, {"JUPYTERHUB_USER": "b"}, ""),
        ({}, {"PYTHONPATH": "/x"}, "another PYTHONPATH"),
        ({"TZ": "UTC", "HOME": "/a"}, {"HOME": "/b"}, "another HOME, TZ"),
    ],
)
def test_which_variables_matter(
    started: dict[str, str], wanted: dict[str, str], words: str
) -> None:
    assert decisive_changes(started, wanted) == words
