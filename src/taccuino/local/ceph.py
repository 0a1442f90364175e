"""The embedded object storage: one Ceph monitor, one OSD and a RadosGW, on one machine.

It is the storage that production runs, so STS, roles, policies and quotas are the real ones.
Everything lies below ``<state_dir>/ceph`` and is made once: preparing a service only ever adds
what is missing, since making a cluster twice would lose the first one's data. The ``ceph``
command is left aside where a keyring or an admin socket will do: each start of it costs a
second of CPU. There is no manager daemon: nothing here needs one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import struct
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from taccuino.errors import ServiceError
from taccuino.private_files import keep_private, write_private
from taccuino.settings import Settings, parse_size
from taccuino.storage.errors import StorageError

from .ceph_config import ceph_config, keyring, new_key
from .iam import issuer as embedded_issuer
from .iam import signing_key
from .service import Service

__all__ = ["ADMIN_UID", "admin_credentials_file", "ceph_services"]

ADMIN_UID = "taccuino"
"""The RadosGW user whose keys make the buckets and the roles."""
_ADMIN_CAPS = "roles=*;oidc-provider=*;user-policy=*;users=read;buckets=*"
_ACCOUNT = "ceph"
"""The account that Debian's packages make for the daemons."""
_SOCKET_PATH_LIMIT = 107
"""Bytes of a unix socket's path (unix(7): ``sun_path`` is 108 with its end)."""
_COMMAND_SECONDS = 60.0


def directory(settings: Settings) -> Path:
    """Where the cluster lies."""
    return settings.state_dir / "ceph"


def admin_credentials_file(settings: Settings) -> Path:
    """The file that `ceph_services` fills and ``storage.admin_credentials_file`` names."""
    return settings.state_dir / "secrets/storage-admin.json"


def ceph_services(settings: Settings) -> list[Service]:
    """The monitor, the OSD and the RadosGW, in the order they are started in."""
    conf = directory(settings) / "ceph.conf"
    account = _account(settings.state_dir)
    drop = ("--setuser", account, "--setgroup", account) if account else ()
    common = ("-c", str(conf), *drop)
    return [
        Service(
            name="ceph-mon",
            command=("ceph-mon", "-f", "-i", "a", *common),
            files=(conf,),
            prepare=lambda: _prepare_monitor(settings),
            ready=lambda: _state(settings, "mon.a", "mon_status") in {"leader", "peon"},
        ),
        Service(
            name="ceph-osd",
            command=("ceph-osd", "-f", "-i", "0", *common),
            files=(conf,),
            after=("ceph-mon",),
            prepare=lambda: _prepare_osd(settings),
            ready=lambda: _state(settings, "osd.0", "status") == "active",
        ),
        Service(
            name="radosgw",
            command=("radosgw", "-f", "-n", "client.rgw", *common),
            files=(conf,),
            after=("ceph-osd",),
            prepare=lambda: _prepare_gateway(settings),
            ready=lambda: _answers(settings),
            after_start=lambda: _prepare_storage(settings),
            stop_timeout=5.0,
        ),
    ]


def _prepare_monitor(settings: Settings) -> None:
    """Write ``ceph.conf``, and at the first run make the keys and the monitor's store."""
    base = directory(settings)
    _check_socket_path(base / "run" / "client.rgw.asok")
    for path in (base, base / "run", base / "mon", base / "osd", base / "rgw"):
        path.mkdir(mode=0o700, exist_ok=True)
    identity = _identity(base)
    port, gateway = settings.local.ceph_mon_port, settings.local.s3_backend_port
    if port is None or gateway is None:
        raise ServiceError(
            "ceph-mon: local.ceph_mon_port and local.s3_backend_port are not set"
        )
    text = ceph_config(
        base,
        fsid=identity["fsid"],
        mon_port=port,
        rgw_port=gateway,
        sts_key=identity["sts_key"],
        size=parse_size(settings.local.storage_size),
    )
    conf = base / "ceph.conf"
    if not conf.exists() or conf.read_text(encoding="utf-8") != text:
        write_private(conf, text)
    made_with = base / "mon.port"
    if not made_with.exists():
        # A store without its mark was cut off while it was made and holds no data yet;
        # ceph-mon takes a directory with anything in it for a finished one.
        shutil.rmtree(base / "mon")
        (base / "mon").mkdir(mode=0o700)
        _make_monitor(base, identity, port)
        write_private(made_with, str(port))
    elif made_with.read_text() != str(port):
        _move_monitor(base, port)
        write_private(made_with, str(port))
    _hand_over(base, _account(settings.state_dir))


def _make_monitor(base: Path, identity: dict[str, str], port: int) -> None:
    """Make the monitor's store; it takes every key that the cluster will need with it."""
    keyrings = {
        base / "mon.keyring": {"mon.": (identity["mon_key"], {"mon": "allow *"})},
        base / "keyring": {
            "client.admin": (identity["admin_key"], {"mon": "allow *", "osd": "allow *"})
        },
        base / "osd/keyring": {
            "osd.0": (identity["osd_key"], {"mon": "allow profile osd", "osd": "allow *"})
        },
        base / "rgw/keyring": {
            "client.rgw": (identity["rgw_key"], {"mon": "allow rw", "osd": "allow rwx"})
        },
    }
    for path, keys in keyrings.items():
        write_private(path, keyring(keys))
    everything = base / "mkfs.keyring"
    write_private(everything, "".join(keyring(keys) for keys in keyrings.values()))
    conf, monmap = str(base / "ceph.conf"), str(base / "monmap")
    create = ("monmaptool", "--create", "--clobber", "--fsid", identity["fsid"])
    _run(*create, "--addv", "a", f"[v2:127.0.0.1:{port}/0]", monmap)
    mkfs = ("ceph-mon", "--mkfs", "-i", "a", "-c", conf)
    _run(*mkfs, "--monmap", monmap, "--keyring", str(everything))
    everything.unlink()


def _move_monitor(base: Path, port: int) -> None:
    """Give the monitor another port: its address lies in its store, not in the settings."""
    conf, monmap = str(base / "ceph.conf"), str(base / "monmap")
    _run("ceph-mon", "-i", "a", "-c", conf, "--extract-monmap", monmap)
    _run("monmaptool", "--rm", "a", monmap)
    _run("monmaptool", "--addv", "a", f"[v2:127.0.0.1:{port}/0]", monmap)
    _run("ceph-mon", "-i", "a", "-c", conf, "--inject-monmap", monmap)


def _prepare_osd(settings: Settings) -> None:
    """At the first run, register the OSD with the monitor and make its store."""
    base = directory(settings)
    if (base / "osd/ready").exists():  # bluestore's own mark of a finished mkfs
        return
    identity, conf = _identity(base), str(base / "ceph.conf")
    _run("ceph", "-c", conf, "osd", "new", identity["osd_uuid"], "0")
    mkfs = ("ceph-osd", "-i", "0", "-c", conf, "--mkfs", "--no-mon-config")
    _run(*mkfs, "--osd-uuid", identity["osd_uuid"])
    _hand_over(base, _account(settings.state_dir))


def _prepare_gateway(settings: Settings) -> None:
    """At the first run, make the account of the provisioner.

    RadosGW chooses its keys: as arguments they would be in the process list.
    """
    path = admin_credentials_file(settings)
    if path.exists():
        return
    conf = str(directory(settings) / "ceph.conf")
    admin = ("radosgw-admin", "-n", "client.rgw", "-c", conf, "user")
    who = f"--uid={ADMIN_UID}"
    if ADMIN_UID in json.loads(_run(*admin, "list")):
        answer = _run(*admin, "info", who)
    else:
        answer = _run(*admin, "create", who, "--display-name=Taccuino", f"--caps={_ADMIN_CAPS}")
    key = json.loads(answer)["keys"][0]
    keys = {"access_key": key["access_key"], "secret_key": key["secret_key"]}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, json.dumps(keys) + "\n")


def _prepare_storage(settings: Settings) -> None:
    """Make what all users share, so that the first one does not wait for it.

    An IAM that others run is left to the hub: it may be away while this machine starts.
    """
    from taccuino.storage.issuer import PublishedIssuer
    from taccuino.storage.provisioner import BucketProvisioner

    issuer = None
    if settings.embedded_iam:
        issuer = PublishedIssuer(embedded_issuer(settings), (signing_key(settings).thumbprint,))
    # Not through the edge, which may start later.
    endpoint = f"http://127.0.0.1:{settings.local.s3_backend_port}"
    storage = settings.storage.model_copy(update={"endpoint": endpoint})
    direct = settings.model_copy(update={"storage": storage})
    provisioner = BucketProvisioner(direct, issuer=issuer)

    async def prepare() -> None:
        await provisioner.ensure_scratch()
        if issuer is not None:
            await provisioner.ensure_issuer()

    try:
        asyncio.run(prepare())
    except StorageError as error:
        raise ServiceError(f"radosgw: {error}") from error


def _identity(base: Path) -> dict[str, str]:
    """What makes this cluster this cluster: its ids and keys, chosen once."""
    identity: dict[str, str] = json.loads(
        keep_private(
            base / "identity.json",
            lambda: json.dumps(
                {
                    "fsid": str(uuid.uuid4()),
                    "osd_uuid": str(uuid.uuid4()),
                    "sts_key": secrets.token_hex(8),
                    **{f"{name}_key": new_key() for name in ("mon", "admin", "osd", "rgw")},
                }
            ),
        )
    )
    return identity


def _state(settings: Settings, daemon: str, command: str) -> str:
    """The state of a daemon by its admin socket; empty when it does not answer."""
    path = directory(settings) / "run" / f"{daemon}.asok"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2.0)
            connection.connect(str(path))
            connection.sendall(json.dumps({"prefix": command}).encode() + b"\0")
            answer = connection.makefile("rb")
            (length,) = struct.unpack(">I", answer.read(4))
            return str(json.loads(answer.read(length)).get("state", ""))
    except (OSError, struct.error, json.JSONDecodeError):
        return ""


def _answers(settings: Settings) -> bool:
    """Whether RadosGW answers HTTP."""
    url = f"http://127.0.0.1:{settings.local.s3_backend_port}/"
    try:
        with _OPENER.open(url, timeout=2.0) as response:
            response.read()
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks the loopback interface itself, whatever proxy the environment names."""


def _run(*command: str) -> str:
    """Run one of Ceph's commands and give its output.

    Raises
    ------
    ServiceError
        If it is not installed, fails, or takes longer than a minute.
    """
    name = " ".join(command[:2])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except FileNotFoundError:
        raise ServiceError(
            f"{command[0]} is not installed; install Debian's ceph-mon, ceph-osd and radosgw"
        ) from None
    except subprocess.TimeoutExpired:
        raise ServiceError(
            f"{name} gave no answer within {_COMMAND_SECONDS:.0f} s; see the log of ceph-mon"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-3:]
        raise ServiceError(f"{name} failed with code {done.returncode}: {' | '.join(lines)}")
    return done.stdout


def _account(state_dir: Path) -> str | None:
    """The account that the daemons drop to, or none if they must stay what they are.

    They stay root where ``ceph`` could not reach its own directory, such as below ``/root``.
    """
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(_ACCOUNT)
    except KeyError:
        return None
    parents = [state_dir, *state_dir.parents]
    passable = all(path.stat().st_mode & stat.S_IXOTH for path in parents if path.exists())
    return _ACCOUNT if passable else None


def _hand_over(base: Path, account: str | None) -> None:
    """Give the cluster's files to the account its daemons run as."""
    for path in (base, *base.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a running daemon's own, gone meanwhile
            shutil.chown(path, account or os.geteuid(), account or os.getegid())


def _check_socket_path(path: Path) -> None:
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        raise ServiceError(
            f"state_dir: {path} is longer than the {_SOCKET_PATH_LIMIT} bytes that a socket's "
            "path may have; choose a shorter state directory"
        )
