"""Bringing a running instance to the code and settings that are there now, under its users.

Notebook servers run on. New ones are refused for the moments in which services restart, and
those that are starting come first. What has changed restarts in order, the hub last; the edge
reloads, and holds the requests for whoever is away meanwhile. Then the service is tried.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import taccuino
from taccuino.draining import Drain, drain, end_drain
from taccuino.edge.routemap import parse_map
from taccuino.errors import ServiceError
from taccuino.settings import Settings

from .lifecycle import Report, exclusive, image_tasks, prepared, start_task
from .order import Task, run_in_order
from .probe import http_answer, http_status
from .service import Service
from .services import services_of
from .sites import upgrade_sites
from .supervision import Supervision, log_tail, wait_until
from .supervisor_config import log_file

__all__ = ["Release", "database_backup", "upgrade"]

_DRAIN = Drain(
    "The service is being updated, which takes a minute. Servers that run go on; please start "
    "yours again in a moment.",
    seconds=600,
)
_STARTS_SECONDS = 180.0
_READY_SECONDS = 30.0
_ASKED_AT_ONCE = 16
_BACKUPS = 5


class Release:
    """Which code an instance runs: its version, and its commit where it is a checkout."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "supervisor/release"

    def before(self) -> str:
        """The code of the last upgrade; empty if there was none."""
        try:
            return self._file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def now(self) -> str:
        """The code that is there."""
        command = [
            "git",
            "-C",
            str(Path(taccuino.__file__).parent),
            "rev-parse",
            "--short",
            "HEAD",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # no git
            return taccuino.__version__
        commit = done.stdout.strip()
        return f"{taccuino.__version__} ({commit})" if commit else taccuino.__version__

    def note(self) -> None:
        """Remember the code that is there as what runs."""
        self._file.write_text(self.now() + "\n", encoding="utf-8")


def upgrade(settings: Settings, report: Report) -> Settings:
    """Bring a running instance up to date, and verify that it works; as `up` is called.

    Raises
    ------
    SettingsError
        If the settings can't be used on this machine; nothing was touched.
    ServiceError
        If nothing runs here, if a service can't be restarted, or if the service does not work
        afterwards; the text says how to go back.
    """
    supervision = Supervision(settings.state_dir)
    if not any(state.state == "running" for state in supervision.states()):
        raise ServiceError(
            f"nothing runs in {settings.state_dir} that could be upgraded; "
            "`taccuino up` starts the service"
        )
    resolved = prepared(settings)
    state = resolved.state_dir
    release = Release(state)
    with exclusive(state):
        if resolved.local.sites:
            # The sites have the hubs; here is what they share.
            services = services_of(resolved)
            supervision.apply(services)
            run_in_order(_tasks(supervision, services, report))
            upgrade_sites(resolved, report)
        else:
            _upgrade_site(resolved, supervision, release, report)
        before, now = release.before(), release.now()
        report(
            f"code         {now}" + (f", before {before}" if before not in ("", now) else "")
        )
        release.note()
    return resolved


def _upgrade_site(
    settings: Settings, supervision: Supervision, release: Release, report: Report
) -> None:
    # What takes long comes first, and disturbs nobody.
    run_in_order(image_tasks(settings, report))
    backup = database_backup(settings)
    with _drained(settings, report):
        # Not before: users stop servers while others' starts are waited for.
        served = _answering(settings)
        services = services_of(settings)
        supervision.apply(services)
        try:
            run_in_order(_tasks(supervision, services, report))
            _verify(settings, served, report)
        except ServiceError as error:
            raise ServiceError(f"{error}\n{_way_back(release.before(), backup)}") from None


def _tasks(supervision: Supervision, services: list[Service], report: Report) -> list[Task]:
    """Restart what changed, in order; the hub after all others."""
    others = tuple(service.name for service in services if service.name != "hub")
    ordered = [
        replace(service, after=others) if service.name == "hub" else service
        for service in services
    ]
    return [start_task(supervision, service, report) for service in ordered]


@contextlib.contextmanager
def _drained(settings: Settings, report: Report) -> Iterator[None]:
    """Let no server begin to start, once those that do so have started."""
    drain(settings.state_dir, _DRAIN)
    try:
        if not wait_until(lambda: not _starting(settings), _STARTS_SECONDS, interval=0.3):
            report("starts       some still go on; the next hub cleans up after them")
        yield
    finally:
        end_drain(settings.state_dir)


def _starting(settings: Settings) -> int:
    """How many servers start; none if the hub does not say, also when it is asked again."""
    answer = http_answer(settings, "/hub/ready") or http_answer(settings, "/hub/ready")
    try:
        return int(json.loads(answer[1])["starting"]) if answer else 0
    except (ValueError, KeyError, TypeError):  # a hub that is older than this
        return 0


def _answering(settings: Settings) -> set[str]:
    """The paths of notebook servers that answer through the edge."""
    assert settings.edge.routes_file is not None
    try:
        routes, _ = parse_map(settings.edge.routes_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return set()
    paths = [
        f"{route.routespec}api"
        for route in routes.values()
        if "user" in route.data and route.routespec.startswith("/")
    ]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        answers = pool.map(lambda path: http_status(settings, path), paths)
    return {path for path, status in zip(paths, answers, strict=True) if status == 200}


def _verify(settings: Settings, served: set[str], report: Report) -> None:
    """Try the service as its users do.

    Raises
    ------
    ServiceError
        With what does not work.
    """
    began = time.monotonic()
    if not wait_until(lambda: http_status(settings, "/hub/ready") == 200, _READY_SECONDS):
        answer = http_answer(settings, "/hub/ready")
        log = log_file(settings.state_dir, "hub")
        raise ServiceError(
            f"the service is not ready: {_failed_checks(answer)}; the end of {log}:\n"
            f"{log_tail(log) or '(empty)'}"
        )
    page = http_answer(settings, "/hub/login")
    if page is None or page[0] != 200 or "</html>" not in page[1]:
        said = f"status {page[0]}" if page else "nothing"
        raise ServiceError(f"the login page does not come through the edge; it answers {said}")
    lost = served - _answering(settings)
    if lost:
        raise ServiceError(
            f"{len(lost)} of {len(served)} notebook servers answered before and do not now: "
            f"{', '.join(sorted(lost)[:10])}"
        )
    servers = f"; {len(served)} notebook servers answer as before" if served else ""
    report(f"verified     after {time.monotonic() - began:.1f} s: ready, login page{servers}")


def _failed_checks(answer: tuple[int, str] | None) -> str:
    """What the readiness names."""
    if answer is None:
        return "there is no answer"
    try:
        checks = json.loads(answer[1])["checks"].items()
        failed = [f"{name}: {one['message']}" for name, one in checks if one["state"] != "ok"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"status {answer[0]}"
    return "; ".join(failed) or f"status {answer[0]}"


def database_backup(settings: Settings) -> Path | None:
    """Copy the hub's database, while it is in use, beside itself; none if it is elsewhere.

    Raises
    ------
    ServiceError
        If it can't be copied: the disk is full, say.
    """
    database = settings.state_dir / "hub/jupyterhub.sqlite"
    if settings.hub.database_url != f"sqlite:///{database}" or not database.is_file():
        return None
    made = datetime.now(UTC)
    copy = database.with_name(f"jupyterhub.before-upgrade-{made:%Y%m%dT%H%M%S.%fZ}.sqlite")
    try:
        copy.touch(mode=0o600, exist_ok=False)
        with (
            contextlib.closing(sqlite3.connect(database)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except (OSError, sqlite3.Error) as error:
        with contextlib.suppress(OSError):
            copy.unlink()
        raise ServiceError(
            f"the hub's database can't be copied to {copy}: {error}; nothing was restarted, "
            "and the service runs as before"
        ) from error
    # Not the last one alone: who goes back upgrades once more, maybe to a newer database.
    for old in sorted(database.parent.glob("jupyterhub.before-upgrade-*"))[:-_BACKUPS]:
        old.unlink()
    return copy


def _way_back(before: str, backup: Path | None) -> str:
    code = f"the code that ran before, {before}," if before else "the code that ran before"
    way = (
        f"Notebook servers run on. To go back: install {code} and the settings of then, and "
        "run `taccuino upgrade` again."
    )
    if backup is None:
        return way
    return (
        f"{way}\nIf its hub says that the database is newer than it is: copy {backup} over "
        "jupyterhub.sqlite there, remove jupyterhub.sqlite-wal and -shm, and upgrade again."
    )
