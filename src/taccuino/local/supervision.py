"""supervisord of one instance: started, told of changed services, asked for their states."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from taccuino.errors import ServiceError
from taccuino.private_files import write_private

from .processes import end, orphans
from .service import Service
from .supervisor_config import log_file, supervisor_config

__all__ = ["ServiceState", "Supervision", "log_tail", "wait_until"]

_OPEN_FILES = 16384
_RUNS = frozenset({"running", "starting", "backoff"})
_STOPPING_SECONDS = 60.0
"""Longer than any service may take to end."""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
_PASSED = ("TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True)
class ServiceState:
    """A service's state in supervisord's words, in lower case, and its process id, if any."""

    name: str
    state: str
    pid: int | None


def wait_until(condition: Callable[[], bool], timeout: float, *, interval: float = 0.1) -> bool:
    """Whether a condition comes true within ``timeout`` seconds."""
    limit = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(interval)
    return True


def log_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:]) if lines else ""


class Supervision:
    """The supervisord of one instance.

    Parameters
    ----------
    state_dir
        The instance's state directory.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._directory = state_dir / "supervisor"
        self._config = self._directory / "supervisord.conf"
        self._commands = self._directory / "commands.json"
        self._changed: set[str] = set()

    def running(self) -> bool:
        """Whether supervisord answers."""
        return self._pid() is not None

    def states(self) -> list[ServiceState]:
        """The state of every service that is known; none when supervisord does not run."""
        try:
            found = self._call("getAllProcessInfo")
        except OSError:
            return []
        return [
            ServiceState(one["name"], str(one["statename"]).lower(), one["pid"] or None)
            for one in found
        ]

    def apply(self, services: Sequence[Service]) -> None:
        """Have supervisord know exactly these services; what is there keeps running.

        Starts supervisord if it does not run, and ends what a killed one left.

        Raises
        ------
        ServiceError
            If supervisord can't be started, or refuses the configuration.
        """
        # The path of every file is in the text, so a reader learns nothing; yet variables
        # may name more than they should.
        text = supervisor_config(
            self.state_dir, services, self._environment(), open_files=_open_files()
        )
        write_private(self._config, text)
        pid = self._pid()
        self._end_orphans(services, pid)
        commands = {service.name: list(service.command) for service in services}
        self._commands.write_text(json.dumps(commands), encoding="utf-8")
        if pid is None:
            self._launch()
            return
        added, changed, removed = self._call("reloadConfig")[0]
        for name in removed:
            self._remove(name)
        for name in added:
            self._call("addProcessGroup", name)
        # These run on as they are until it is their turn.
        self._changed = set(changed)

    def is_current(self, service: Service) -> bool:
        """Whether a service runs as it is described now."""
        state = self._state(service.name)
        if service.name in self._changed or state.state not in {"running", "starting"}:
            return False
        return self._started(service).is_file() and (
            self._started(service).read_text() == service.fingerprint()
        )

    def start(self, service: Service) -> None:
        """Start a service, or restart it; does not wait until it is ready."""
        self._started(service).unlink(missing_ok=True)
        self._settled(service.name)
        if service.name in self._changed:
            self._remove(service.name)
            self._call("addProcessGroup", service.name)
            self._changed.discard(service.name)
        if self._state(service.name).state in _RUNS:
            self._end(service.name)
        self._call("startProcess", service.name, False)
        self._started(service).write_text(service.fingerprint())

    def reload(self, service: Service) -> None:
        """Let a service that runs take what its ``prepare`` changed."""
        pid = self._state(service.name).pid
        if pid is not None:
            service.reload(lambda number: os.kill(pid, number))

    def wait_ready(self, service: Service, given_up: Callable[[], bool]) -> None:
        """Wait until a service that was started is ready.

        Parameters
        ----------
        service
            The service.
        given_up
            Says that waiting is of no use any more, since another service failed.

        Raises
        ------
        ServiceError
            If it ends again and again, or is not ready in time; with the tail of its log.
        """
        state = "starting"

        def settled() -> bool:
            nonlocal state
            state = self._state(service.name).state
            # supervisord says "running" after a second; a service that answers need not wait.
            started = state in {"running", "starting"}
            return given_up() or state == "fatal" or (started and service.ready())

        in_time = wait_until(settled, service.ready_timeout)
        if state == "fatal" or not in_time:
            what = (
                "ends as soon as it is started"
                if state in {"fatal", "backoff", "exited"}
                else f"is {state} but not ready after {service.ready_timeout:.0f} s"
            )
            log = log_file(self.state_dir, service.name)
            raise ServiceError(
                f"{service.name} {what}; the end of {log}:\n{log_tail(log) or '(empty)'}"
            )

    def _remove(self, name: str) -> None:
        self._call("stopProcessGroup", name)
        self._call("removeProcessGroup", name)

    def stop(self, name: str) -> None:
        """Stop a service and wait until it ended; nothing if it does not run."""
        try:
            if self._settled(name) in _RUNS:
                self._end(name)
        except OSError:  # supervisord was killed: its services may run on
            commands = self._earlier_commands()
            ours = {name: commands[name]} if name in commands else {}
            end(orphans(self.state_dir, ours, None))

    def _settled(self, name: str) -> str:
        """A service's state. One that is stopping can be neither stopped nor started."""
        wait_until(lambda: self._state(name).state != "stopping", _STOPPING_SECONDS)
        return self._state(name).state

    def _end(self, name: str) -> None:
        try:
            self._call("stopProcess", name)
        except ServiceError as error:
            if "NOT_RUNNING" not in str(error):  # it has just ended by itself
                raise

    def shutdown(self) -> None:
        """Stop what still runs, orphans too, and supervisord itself."""
        pid = self._pid()
        if pid is not None:
            self._call("shutdown")
            if not wait_until(lambda: not Path(f"/proc/{pid}").exists(), 60.0):
                raise ServiceError(f"supervisord (process {pid}) does not end; see its log")
        end(orphans(self.state_dir, self._earlier_commands(), None))

    def _launch(self) -> None:
        program = Path(sys.executable).with_name("supervisord")
        environment = {**self._environment(), "TACCUINO_SERVICE": "supervisor"}
        done = subprocess.run(
            [str(program), "-c", str(self._config)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not wait_until(self.running, 15.0):
            log = log_file(self.state_dir, "supervisor")
            said = done.stderr.strip() or log_tail(log)
            raise ServiceError(f"supervisord could not be started: {said}")

    def _end_orphans(self, services: Sequence[Service], pid: int | None) -> None:
        commands = {**self._earlier_commands()}
        for service in services:
            commands.setdefault(service.name, service.command)
        end(orphans(self.state_dir, commands, pid))

    def _earlier_commands(self) -> dict[str, Sequence[str]]:
        try:
            return cast(
                "dict[str, Sequence[str]]", json.loads(self._commands.read_text("utf-8"))
            )
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _environment(self) -> dict[str, str]:
        # A short list: what an operator's shell happens to hold is no part of the service,
        # and `up` from another shell must not restart everything.
        passed = {name: os.environ[name] for name in _PASSED if os.environ.get(name)}
        return {
            **_ENVIRONMENT,
            **passed,
            "TACCUINO_INSTANCE": str(self.state_dir),
            "TACCUINO_SETTINGS": str(self.state_dir / "settings.json"),
        }

    def _started(self, service: Service) -> Path:
        return self._directory / f"{service.name}.started"

    def _pid(self) -> int | None:
        try:
            return int(self._call("getPID"))
        except OSError:
            return None

    def _state(self, name: str) -> ServiceState:
        one = self._call("getProcessInfo", name)
        return ServiceState(name, str(one["statename"]).lower(), one["pid"] or None)

    def _call(self, method: str, *arguments: object) -> Any:
        """Call a method of supervisord's XML-RPC interface; OSError if it does not run."""
        # A connection each: the transport is not safe between threads.
        from supervisor.xmlrpc import SupervisorTransport

        url = f"unix://{self._directory / 'supervisor.sock'}"
        transport = SupervisorTransport(None, None, url)
        try:
            proxy = xmlrpc.client.ServerProxy("http://localhost", transport)
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            name = str(arguments[0]) if arguments else "supervisord"
            raise ServiceError(f"{name}: supervisord answers {fault.faultString}") from None
        finally:
            transport.close()


def _open_files() -> int:
    """As many as the machine grants, up to what the edge and the hub can use."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
