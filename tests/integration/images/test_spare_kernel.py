"""The first kernel is started ahead; what the user gets is a kernel like any other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from notebook_container import NotebookContainer

from taccuino.engines.images import ImageStore

pytestmark = pytest.mark.integration

DRIVER = (Path(__file__).parent / "kernel_driver.py").read_text()
STARTUP = """
import os, random, sys
startup = [os.getcwd(), list(sys.path), os.environ.get("JPY_SESSION_NAME"), os.getpid()]
startup_random = random.random()
"""
# Everything about itself that a kernel can see and that does not differ from start to start.
LOOK = r"""
import asyncio, gc, logging, os, re, signal, sys, threading, warnings
def niceness(thread):
    try:
        return os.getpriority(os.PRIO_PROCESS, int(thread))
    except ProcessLookupError:  # it has ended meanwhile
        return 0
main = sys.modules["__main__"]
plain = lambda what: re.sub(r"kernel-[0-9a-f-]+", "kernel-X", re.sub(r" at 0x\w+", "", str(what)))
look = {
    "cwd": os.getcwd(), "path": sys.path, "startup": startup[:3], "in_startup": startup[3] == os.getpid(),
    "env": dict(os.environ), "argv": plain(sys.argv), "orig_argv": plain(sys.orig_argv),
    "flags": plain(sys.flags), "executable": sys.executable, "modules": sorted(sys.modules),
    "threads": sorted(re.sub(r"\d+", "", t.name) for t in threading.enumerate()),
    "next_thread": threading.Thread().name, "hooks": plain(sys.meta_path),
    "main": [plain(vars(main).get(n)) for n in ("__file__", "__spec__", "__doc__", "__session__")],
    "parent": os.getppid(), "leads": [os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid()],
    "nice": sorted(set(map(niceness, os.listdir("/proc/self/task")))),
    "files": sorted({plain(os.readlink(f"/proc/self/fd/{f}")).split("[")[0].split(":")[0]
                    for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}")
                    and "/.ipython/" not in os.readlink(f"/proc/self/fd/{f}")}),
    "stdin": len(os.read(0, 1)), "stderr": plain(type(sys.stderr)), "real_stderr": plain(sys.__stderr__),
    "signals": [plain(signal.getsignal(s)) for s in (2, 13, 15, 17)], "umask": os.umask(0o22),
    "warnings": plain(warnings.filters), "log": plain(logging.getLogger("tornado").handlers),
    "names": sorted(n for n in globals() if not n.startswith("_i")), "gc": gc.get_threshold(),
    "main_thread": threading.current_thread() is threading.main_thread(),
    "command": plain(open("/proc/self/cmdline").read().rstrip(chr(0))), "comm": open("/proc/self/comm").read(),
    "info": plain(open(sys.argv[-1]).read().count("key")), "history": get_ipython().history_manager.enabled,
}
"""


class Server:
    """A notebook server, and programs that run inside it."""

    def __init__(self, container: NotebookContainer) -> None:
        self.container = container

    def run(self, program: str) -> Any:
        """What the program tells, which has the names of `kernel_driver`."""
        text = self.container.store.podman(
            *("exec", "--interactive", self.container.name, "/opt/taccuino/bin/python", "-"),
            what="a program in the server",
            stdin=f"{DRIVER}\n{program}\n",
        )
        return json.loads(text)


@pytest.fixture(scope="module")
def server(store: ImageStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workarea = tmp_path_factory.mktemp("workarea")
    with NotebookContainer(store, workarea, "taccuino-test-spare", memory=1024) as running:
        running.wait_until_ready()
        startup = "/home/user/.ipython/profile_default/startup"
        running.shell(
            f"mkdir -p {startup} /workarea/deep/er; cat > {startup}/00.py <<'E'\n{STARTUP}\nE\n"
        )
        yield Server(running)


@pytest.fixture(autouse=True)
def no_kernels(server: Server) -> Iterator[None]:
    """What a test that failed has left would make the next ones fail."""
    yield
    server.run(
        "tell([api('DELETE', f\"kernels/{one['id']}\") for one in api('GET', 'kernels')])"
    )


def test_a_server_that_nobody_looks_at_has_none(server: Server) -> None:
    assert server.run("tell([*map(str, waiting().values())])") == []


def test_a_spare_is_no_kernel_and_no_activity(server: Server) -> None:
    before = server.container.last_activity()
    told = server.run(
        "spare(); tell([api('GET', n) for n in ('kernels', 'sessions', 'status')])"
    )
    assert told[:2] == [[], []]
    assert told[2]["kernels"] == 0
    assert server.container.last_activity() == before


def test_the_first_kernel_was_the_spare_and_is_like_a_plain_one(server: Server) -> None:
    program = f"""
def look():
    kernel = Kernel(session("deep/er/a.ipynb"))
    told = [kernel.pid, kernel.run({LOOK!r}, "look"), kernel.run("", "startup_random")]
    api("DELETE", f"kernels/{{kernel.identity}}")
    return told
pid, first = spare(), look()
assert not waiting()  # none is kept right after a start: this one starts the plain way
tell([pid, first, look()])
"""
    pid, (first, spare_look, spare_random), (second, plain_look, plain_random) = server.run(
        program
    )
    assert first == pid != second
    assert spare_look == plain_look
    assert spare_look["cwd"] == spare_look["startup"][0] == "/workarea/deep/er"
    assert spare_look["nice"] == [0]
    assert spare_look["env"]["JPY_SESSION_NAME"] == "/workarea/deep/er/a.ipynb"
    assert spare_random != plain_random


def test_two_at_once(server: Server) -> None:
    """One is handed out; neither knows of the other."""
    program = """
pid, opened = spare(), []
threads = [threading.Thread(target=lambda: opened.append(session("two.ipynb"))) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
look = "[os.getpid(), os.getcwd(), *json.load(open(__import__('sys').argv[-1])).values()]"
found = [Kernel(identity).run("import json, os", look) for identity in opened]
tell([pid, *found])
"""
    pid, one, other = server.run(program)
    assert [one[0], other[0]].count(pid) == 1
    assert one[1] == other[1] == "/workarea"
    ports = [value for value in one[2:] + other[2:] if isinstance(value, int)]
    assert len(ports) == len(set(ports)) == 10


def test_the_kernel_of_a_notebook_that_is_read(server: Server) -> None:
    """It is there before it is asked for; until then nobody sees it."""
    program = f"""
write("deep/er/read.ipynb", {{"kernelspec": {{"name": "python3", "display_name": "P"}}}})
pid = spare()
read("deep/er/read.ipynb")
wait_for(lambda: pid not in waiting())
unseen = [api("GET", name) for name in ("kernels", "sessions")]
kernel = Kernel(session("deep/er/read.ipynb"))
told = [pid, unseen, kernel.pid, kernel.run({LOOK!r}, "look"), [k["id"] for k in api("GET", "kernels")]]
other = spare()
read("deep/er/read.ipynb")
time.sleep(0.5)
tell([*told, kernel.identity, other in waiting()])
"""
    pid, unseen, kernel, look, seen, identity, spared = server.run(program)
    assert kernel == pid
    assert unseen == [[], []]
    assert seen == [identity]
    assert look["cwd"] == look["startup"][0] == "/workarea/deep/er"
    assert look["env"]["JPY_SESSION_NAME"] == "/workarea/deep/er/read.ipynb"
    assert spared  # a notebook that has a kernel needs no other


def test_a_kernel_that_nobody_asks_for_ends(server: Server) -> None:
    program = """
write("looked-at.ipynb")
pid = spare()
read("looked-at.ipynb")
wait_for(lambda: pid not in waiting())
others = [Kernel(session(path)).pid for path in ("another.ipynb", "deep/er/looked-at.ipynb")]
wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
wait_for(lambda: len(api("GET", "kernels")) == 2)
tell([pid, others])
"""
    pid, others = server.run(program)
    assert pid not in others  # a kernel for another notebook, and in another directory


@pytest.mark.parametrize("metadata", [{"kernelspec": "x"}, {"kernelspec": {"name": [2]}}])
def test_a_notebook_whose_metadata_is_not_what_it_should_be(
    server: Server, metadata: Any
) -> None:
    notebook = {"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    program = f"""
Path("/workarea/strange.ipynb").write_text({json.dumps(notebook)!r})
spare()
tell(read("strange.ipynb")["type"])
"""
    assert server.run(program) == "notebook"


def test_interrupt_and_restart(server: Server) -> None:
    """After a restart it is a new kernel, again out of the spare if there is one."""
    program = """
first = spare()
kernel = Kernel(session("deep/er/b.ipynb"))
value = kernel.run("import os, time; mine = 1", "[os.getpid(), mine]")
# Before it runs, a kernel ignores what would interrupt it.
sleep = kernel.start("open('/tmp/sleeps', 'w'); time.sleep(600)")
wait_for(Path("/tmp/sleeps").exists)
api("POST", f"kernels/{kernel.identity}/interrupt")
error = kernel.reply(sleep)["ename"]
second = spare()
api("POST", f"kernels/{kernel.identity}/restart")
again = Kernel(kernel.identity).run("import os", "[os.getpid(), os.getcwd(), 'mine' in dir()]")
api("DELETE", f"kernels/{kernel.identity}")
wait_for(lambda: not os.path.exists(f"/proc/{second}"))
tell([first, value, error, second, again])
"""
    first, value, error, second, again = server.run(program)
    assert value == [first, 1]
    assert error == "KeyboardInterrupt"
    assert again == [second, "/workarea/deep/er", False]


def test_a_spare_that_was_killed_is_not_missed(server: Server) -> None:
    program = """
killed = spare()
os.kill(killed, signal.SIGKILL)
kernel = Kernel(session("c.ipynb"))
tell([killed, kernel.pid, spare()])
"""
    killed, kernel, following = server.run(program)
    assert len({killed, kernel, following}) == 3


def test_what_was_installed_since_is_in_the_kernel(server: Server) -> None:
    """The spare notices, and starts anew as the kernel that it was to become."""
    program = r"""
import site
spare()
place = Path(site.getusersitepackages())
place.mkdir(parents=True)
(place / "usercustomize.py").write_text("import sys; sys.the_users_own = True")
kernel = Kernel(session("d.ipynb"))
tell(kernel.run("import sys", "sys.the_users_own"))
__import__("shutil").rmtree(place)
""".replace("\\\n", "\n")
    assert server.run(program) is True


def test_the_debugger_stops_at_a_breakpoint(server: Server) -> None:
    """Its modules were imported ahead, in another thread than a kernel's."""
    program = r"""
spare()
kernel = Kernel(session("e.ipynb"))
def debug(command, **arguments):
    request = {"seq": 1, "type": "request", "command": command, "arguments": arguments}
    return kernel.reply(kernel.send("debug_request", request, channel="control"))
debug("initialize", clientID="c", adapterID="", pathFormat="path")
debug("attach")
code = "x = 20\ny = x + 22\n"
path = debug("dumpCell", code=code)["body"]["sourcePath"]
debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}])
debug("configurationDone")
kernel.start(code)
for message in kernel.messages():
    if message["header"]["msg_type"] == "debug_event" and message["content"]["event"] == "stopped":
        break
tell(message["content"]["body"]["reason"])
""".replace("\\\n", "\n")
    assert server.run(program) == "breakpoint"


def test_a_small_server_has_none(store: ImageStore, tmp_path: Path) -> None:
    with NotebookContainer(store, tmp_path, "taccuino-test-small", memory=768) as running:
        running.wait_until_ready()
        program = "api('GET', 'kernels'); kernel = Kernel(session('a.ipynb')); api('GET', 'kernels'); tell([kernel.run('', '42'), *map(str, waiting().values())])"
        assert Server(running).run(program) == [42]
