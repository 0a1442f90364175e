"""From the settings an operator wrote to those every process reads: ports, addresses, paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taccuino.errors import Fault, SettingsError
from taccuino.settings import Settings

from .namespaces import SiteNetwork
from .ports import OFFSETS, SITE_PORTS, PortNeed, bindable, choose
from .processes import listener
from .secret_files import EMBEDDED_CLIENT_ID, make_secrets

__all__ = ["as_resolved", "keep", "load", "make_directories", "resolve", "resolved_file"]

_DIRECTORIES = {
    # Containers' root file systems and mounts lie below these: their users must pass through.
    "engine": 0o711,
    "mounts": 0o711,
    "workareas": 0o711,
    "secrets": 0o700,
    "supervisor": 0o700,
    "logs": 0o700,
    "hub": 0o700,
    "edge": 0o700,
    "iam": 0o711,
    "ceph": 0o711,
    "mount-plane": 0o711,
    "storage-pages": 0o700,
    "front-end": 0o711,
    "sites": 0o711,
}
_FILES = {"settings.json", "accounts.json", "offers.json", "offers.lock", "taccuino.toml"}


def resolved_file(state_dir: Path) -> Path:
    """Where the resolved settings of an instance are kept."""
    return state_dir / "settings.json"


def load() -> Settings:
    """The settings for a command that looks at what runs: resolved ones where there are any.

    Raises
    ------
    SettingsError
        If the settings can't be used.
    """
    return as_resolved(Settings.load())


def as_resolved(settings: Settings) -> Settings:
    """The resolved settings of the same instance, as far as there are any to be read."""
    path = resolved_file(settings.state_dir)
    try:
        return Settings.load(path) if path.is_file() else settings
    except SettingsError:
        # Not readable by this user, or of another version: `up` writes it anew.
        return settings


def resolve(settings: Settings, taken: Callable[[int], str | None] | None = None) -> Settings:
    """Fill what was left open. Nothing is written: see `keep`.

    What the operator wrote always wins; what an earlier run chose stays.

    Parameters
    ----------
    settings
        As they were read from the file.
    taken
        Who holds a port, in words, if this instance can't use it. Default: ask the machine.

    Raises
    ------
    SettingsError
        If a port is taken, the state directory is not ours, or settings contradict.
    """
    state = settings.state_dir
    kept = _earlier(state)
    _refuse_foreign(state, kept)
    settings = _with_its_sites(settings, kept)
    data = settings.model_dump()
    local, iam, storage = data["local"], data["iam"], data["storage"]

    external_iam = _is_external(iam["issuer"], settings.host, local["iam_port"])
    external_storage = _is_external(storage["endpoint"], settings.host, local["s3_port"])
    faults = _contradictions(settings, external_iam=external_iam, external_s3=external_storage)
    faults += _changed_sites(local["sites"], kept)

    keys = set(OFFSETS)
    if local["sites"]:
        keys -= SITE_PORTS
    if not settings.edge.certificate:
        keys.discard("edge.server_port")
    if external_iam:
        keys -= {"local.iam_port", "local.iam_backend_port"}
    if external_storage:
        keys -= {"local.s3_port", "local.s3_backend_port", "local.ceph_mon_port"}
    needs = [PortNeed(key, _at(data, key), _at(kept, key)) for key in OFFSETS if key in keys]
    if settings.edge.proxy_port:
        needs.append(PortNeed("edge.proxy_port", settings.edge.proxy_port))
    ports, port_faults = choose(settings.port, needs, taken or _holder(state))
    if faults or port_faults:
        raise SettingsError("the settings", [*faults, *port_faults])
    for key, port in ports.items():
        section, name = key.split(".")
        data[section][name] = port

    if not external_iam:
        _embed_iam(data, state)
    if not external_storage:
        storage["endpoint"] = f"http://{settings.host}:{local['s3_port']}"
        storage["admin_credentials_file"] = state / "secrets/storage-admin.json"

    return Settings.parse(data, "the resolved settings")


def keep(resolved: Settings) -> Settings:
    """Make the state directory and the secrets, and save the settings for all processes.

    Raises
    ------
    SettingsError
        If the directory can't be made.
    """
    state, local = resolved.state_dir, resolved.local
    make_directories(state)
    make_secrets(state, embedded_iam=resolved.embedded_iam, sites=bool(local.sites))
    path = resolved_file(state)
    if not path.is_file() or path.read_text() != resolved.model_dump_json(indent=2) + "\n":
        resolved.save(path)
    return resolved


def make_directories(state: Path) -> None:
    """Make the state directory's tree, with the modes that users' containers need.

    Raises
    ------
    SettingsError
        If the directory can't be made.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o711)
        for name, mode in _DIRECTORIES.items():
            (state / name).mkdir(exist_ok=True)
            (state / name).chmod(mode)
    except OSError as error:
        fault = Fault("state_dir", str(error), "name a directory that root can write to")
        raise SettingsError("the settings", [fault]) from None


def _embed_iam(data: dict[str, Any], state: Path) -> None:
    # Imported here: the rest of the command line does without cryptography.
    from .iam import EMBEDDED_ADMIN_GROUP

    iam = data["iam"]
    iam["issuer"] = f"http://{data['host']}:{data['local']['iam_port']}"
    iam["client_id"] = EMBEDDED_CLIENT_ID
    iam["client_secret_file"] = state / "secrets/iam-client-secret"
    iam["registration_url"] = iam["registration_url"] or f"{iam['issuer']}/join"
    iam["admin_groups"] = iam["admin_groups"] or [EMBEDDED_ADMIN_GROUP]


def _is_external(address: str | None, host: str, port: int | None) -> bool:
    """Whether an address was named that is not the embedded part's own (resolved settings)."""
    return address is not None and address.rstrip("/") != f"http://{host}:{port}"


def _contradictions(
    settings: Settings, *, external_iam: bool, external_s3: bool
) -> list[Fault]:
    faults = []
    local = settings.local
    if external_iam and (local.iam_port or local.iam_backend_port):
        mend = "remove it to use the issuer, or remove iam.issuer to use the embedded IAM"
        faults.append(Fault("local.iam_port", "iam.issuer names another IAM", mend))
    if not external_iam and settings.iam.client_id not in {None, EMBEDDED_CLIENT_ID}:
        mend = "name its IAM with iam.issuer, or remove it to use the embedded IAM"
        faults.append(Fault("iam.client_id", "no IAM is named that knows this client", mend))
    if external_s3 and (local.s3_port or local.s3_backend_port or local.ceph_mon_port):
        mend = (
            "remove it to use the endpoint, or remove storage.endpoint to use the embedded one"
        )
        faults.append(Fault("local.s3_port", "storage.endpoint names another storage", mend))
    return faults


def _with_its_sites(settings: Settings, kept: dict[str, Any]) -> Settings:
    """The settings with the sites of an earlier run, and the host that all find."""
    settings = settings.model_copy(deep=True)
    before = kept.get("local", {})
    if not settings.local.sites and before.get("sites"):
        settings.local.sites = before["sites"]
        settings.local.namespaces = before.get("namespaces", False)
    if settings.local.sites and settings.local.namespaces:
        settings.host = SiteNetwork(settings.port).shared
    return settings


def _changed_sites(sites: list[str], kept: dict[str, Any]) -> list[Fault]:
    """What a user has at a site stays there: no site is added or given up on the way."""
    before = kept.get("local", {}).get("sites", [])
    if not kept or set(sites) == set(before):
        return []
    problem = (
        f"the instance in {kept['state_dir']} has the sites {', '.join(before)}"
        if before
        else f"the instance in {kept['state_dir']} is one site, with its users' files"
    )
    mend = "name another state directory, or `taccuino down --purge` this one"
    return [Fault("local.sites", problem, mend)]


def _earlier(state: Path) -> dict[str, Any]:
    """What an earlier run resolved; empty for a new or a foreign directory."""
    try:
        data = json.loads(resolved_file(state).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and data.get("state_dir") == str(state) else {}


def _refuse_foreign(state: Path, kept: dict[str, Any]) -> None:
    """Keep out of a directory that holds something else: a purge removes all that is in it."""
    if kept or not state.exists():
        return
    if not state.is_dir():
        raise SettingsError(
            "the settings", [Fault("state_dir", f"{state} is a file", "name a directory")]
        )
    ours = {*_DIRECTORIES, *_FILES, "lost+found"}  # which a disk of its own begins with
    foreign = sorted(
        path.name
        for path in state.iterdir()
        # A kill may have left a file that was being written (`write_private`).
        if path.name not in ours and path.name.split(".json.")[0] + ".json" not in _FILES
    )
    if foreign:
        problem = f"{state} holds {foreign[0]!r}, which is not of this service"
        fault = Fault("state_dir", problem, "name a directory that is new or empty")
        raise SettingsError("the settings", [fault])


def _at(data: dict[str, Any], key: str) -> int | None:
    section, name = key.split(".")
    value = data.get(section, {}).get(name)
    return value if isinstance(value, int) else None


def _holder(state: Path) -> Callable[[int], str | None]:
    def taken(port: int) -> str | None:
        if bindable(port):
            return None
        found = listener(port)
        if found is None:
            return "a process that is not visible from here"
        text, instance = found
        return None if instance == state else text

    return taken
