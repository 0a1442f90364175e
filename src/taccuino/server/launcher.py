"""``taccuino-server``: the entry point of an image. It starts Jupyter and stays as the agent.

Jupyter is started first. The agent's sockets are bound before, and served from the first client
on: until then nothing is imported for it. The launcher's exit code is Jupyter's, signals are
passed on, and the hub is told each phase.

Where the hub gives it a `Link`, the server is *warm*: see `warm`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from .contract import Contract
from .limits import memory_kills, size_in_words
from .link import LINK_VARIABLE, Link
from .prefork import NOTIFY_VARIABLE, Prefork, looks_at
from .workarea import lay_out, make_runtime_directory, write_aws_config

if TYPE_CHECKING:
    from .hub_client import HubClient
    from .phases import Phases

__all__ = ["LINK_VARIABLE", "NOTIFY_VARIABLE", "command", "main", "run"]

_STATIC_KEYS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
)
_HUNG_UP = 1
"""The exit code where the hub gave the start up before the user's files were there."""
_SINGLEUSER = [sys.executable, "-m", "taccuino.server.singleuser"]
_NO_HUB = """\
taccuino-server: no hub started this server (JUPYTERHUB_API_URL, JUPYTERHUB_API_TOKEN are not
set), so this is a trial of the image. Its address, with a token, is printed below; oidc-token
and the object storage have nobody to ask.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebook server and return its exit code.

    Options are passed on to ``jupyterhub-singleuser``; arguments that begin with a program are
    the command to run in its place.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if os.environ.get(LINK_VARIABLE) and not arguments:
        # This interpreter was started without the search paths that Jupyter needs.
        os.execv(sys.executable, [sys.executable, "-m", "taccuino.server.warm"])  # noqa: S606
    if not Contract(os.environ).has_hub:
        _say(_NO_HUB)
    return run(arguments)


def run(
    arguments: Sequence[str], link: Link | None = None, jupyter: Prefork | None = None
) -> int:
    """Run the notebook server with the identity that the environment tells.

    With ``jupyter``, a process has imported what it needs: it is started, and waits for the
    user's files by itself. With ``link``, the files are waited for and the phases told there.
    """
    contract = Contract(os.environ)
    words = command(contract, arguments)
    if jupyter and (
        words[: len(_SINGLEUSER)] != _SINGLEUSER
        or looks_at(contract.workarea, os.environ, arguments)
    ):
        jupyter.end()
        jupyter = None
    if link and not jupyter:
        if not _take_files(link, contract.workarea):
            return _HUNG_UP
        contract = Contract(os.environ)
    try:
        agent = _Agent(contract)
        environment = agent.child_environment()
    except OSError as error:
        problem = f"the agent cannot be set up: {error}. Is /tmp writable?"
        _say(f"taccuino-server: {problem}\n")
        if link:
            link.tell("failed", problem)
        return 1
    if jupyter:
        jupyter.start(words[len(_SINGLEUSER) :], environment)
        child, notifications = jupyter.pid, jupyter.notifications
    else:
        child, notifications = _start(words, environment | _lay_out(contract.workarea))
    _forward_signals(child)
    phases = agent.serve(link) if contract.has_hub else None
    if link and jupyter:
        if not _take_files(link, contract.workarea):
            os.kill(child, signal.SIGKILL)
            return _HUNG_UP
        whole = agent.child_environment() | _lay_out(contract.workarea)
        new = {name: text for name, text in whole.items() if environment.get(name) != text}
        jupyter.go_on(contract.workarea, new)
    return _wait(child, notifications, phases, contract)


def _take_files(link: Link, workarea: str) -> bool:
    """Wait for the files, go there, and take up what the storage says; False: no files come."""
    files = link.files()
    if files is None:
        return False
    os.environ.update(files["environment"])
    with contextlib.suppress(OSError):  # they are mounted over what this process sees
        os.chdir(workarea)
    return True


def _lay_out(workarea: str) -> dict[str, str]:
    """Lay examples into the workarea; what could not be, for Jupyter's environment."""
    problems = "\n".join(lay_out(Path(workarea)))
    if not problems:
        return {}
    _say(f"{problems}\n")
    return {"TACCUINO_WORKAREA_FAULTS": problems}


def command(contract: Contract, arguments: Sequence[str]) -> list[str]:
    """The command line of the notebook server."""
    if arguments and not arguments[0].startswith("-"):
        return list(arguments)
    page = "/tree" if contract.interface == "notebook" else "/lab"
    options = [f"--ServerApp.root_dir={contract.workarea}", f"--ServerApp.default_url={page}"]
    if not contract.service_url:  # with it, singleuser knows where to listen
        options = ["--ServerApp.ip=0.0.0.0", "--ServerApp.port=8888", *options]
    if contract.has_hub:
        return [*_SINGLEUSER, *options, *arguments]
    return [sys.executable, "-m", "jupyter_server", "--no-browser", *options, *arguments]


class _Agent:
    """The agent: its sockets are bound before Jupyter starts, and served while it does.

    Raises
    ------
    OSError
        If they can't be made.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._runtime = make_runtime_directory()
        self._oidc_socket = _listen(socket.AF_UNIX, str(self._runtime / "oidc-agent.sock"))
        self._endpoint = _listen(socket.AF_INET, ("127.0.0.1", 0))
        self._token = os.urandom(24).hex()

    def child_environment(self) -> dict[str, str]:
        """Jupyter's environment: what was inherited, and where the agent is.

        Raises
        ------
        OSError
            If the AWS configuration can't be written.
        """
        inherited, runtime = os.environ, self._runtime
        # The address with the server's token lies there; by default, it is in the home
        # directory.
        runtime_files = inherited.get("JUPYTER_RUNTIME_DIR") or str(runtime / "jupyter")
        # A static key would win over the agent's credentials.
        environment = {
            name: value for name, value in inherited.items() if name not in _STATIC_KEYS
        }
        environment["JUPYTER_RUNTIME_DIR"] = runtime_files
        if not self._contract.has_hub:
            return environment
        region = Contract(inherited).region
        port = self._endpoint.getsockname()[1]
        return environment | {
            "OIDC_SOCK": str(runtime / "oidc-agent.sock"),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{port}/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._token,
            "AWS_CONFIG_FILE": str(write_aws_config(runtime, region)),
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
        }

    def serve(self, link: Link | None) -> Phases | Link:
        """Serve in threads who asks; what tells the hub of the start."""
        for serve, listener in (
            (self._serve_tokens, self._oidc_socket),
            (self._serve_credentials, self._endpoint),
        ):
            Thread(target=_serve_when_asked, args=(listener, serve), daemon=True).start()
        phases = link or self._phases()
        phases.tell("booting")
        phases.tell("jupyter")
        return phases

    def _phases(self) -> Phases:
        from .phases import Phases

        return Phases(self._hub(), self._contract.server_name, _say)

    def _serve_tokens(self) -> None:
        from .agent import OidcAgent
        from .sources import TokenSource

        OidcAgent(self._contract.profile, TokenSource(self._hub())).serve(self._oidc_socket)

    def _serve_credentials(self) -> None:
        from .agent import CredentialsEndpoint
        from .sources import CredentialSource

        credentials = CredentialSource(self._hub())
        CredentialsEndpoint(self._endpoint, self._token, credentials).serve_forever()

    def _hub(self) -> HubClient:
        from .hub_client import HubClient

        return HubClient(self._contract.hub_api_url, self._contract.hub_token)


def _serve_when_asked(listener: socket.socket, serve: Callable[[], None]) -> None:
    """Begin to serve when the first client comes, who waits in the listener's queue.

    What it takes would cost each start 40 ms of imports, and each server 3 MB for good.
    """
    select.select([listener], [], [])
    serve()


def _listen(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    """A listening socket; the unix one lies in a directory of mode 0700."""
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen(64)
    return listener


def _start(command_line: Sequence[str], environment: Mapping[str, str]) -> tuple[int, BinaryIO]:
    """Start the child: its process id, and what it says.

    No thread runs yet, so a plain fork is safe; importing ``subprocess`` would cost 15 ms.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        return child, os.fdopen(told, "rb")
    try:
        os.set_inheritable(tell, True)
        _become(command_line, {**environment, NOTIFY_VARIABLE: str(tell)})
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    finally:
        os._exit(1)


def _become(command_line: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    try:
        os.execvpe(command_line[0], list(command_line), dict(environment))  # noqa: S606
    except OSError as error:
        _say(f"taccuino-server: {command_line[0]} cannot be run: {error.strerror}\n")
        raise SystemExit(127) from error


def _forward_signals(child: int) -> None:
    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, forward)


def _wait(
    child: int, notifications: BinaryIO, phases: Phases | Link | None, contract: Contract
) -> int:
    """Wait for readiness, then for the child; return its exit code as a shell would."""
    with notifications:
        # Ends without a line when Jupyter ends, or closes the descriptor, before it listens.
        ready = notifications.readline().strip() == b"ready"
    if ready and phases:
        phases.tell("ready")
        if isinstance(phases, Link):
            phases.close()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if phases:
        if not ready:
            phases.tell("failed", failure(code, memory_kills(), contract.memory_limit))
        phases.close(timeout=3)
    return code if code >= 0 else 128 - code


def failure(code: int, kills: int | None, memory_limit: int | None) -> str:
    """The sentence for a server that ended before it was ready."""
    if kills:
        limit = f" of {size_in_words(memory_limit)}" if memory_limit else ""
        return (
            f"Jupyter was killed while it started: it needs more than its memory limit{limit}."
        )
    if code < 0:
        return f"Jupyter was ended by signal {-code} before it was ready."
    return f"Jupyter ended with code {code} before it was ready; the server's log says why."


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
