"""The object storage is away: nothing hangs, what is known stays usable, and all is told.

Away in three ways: it refuses connections, its packets are dropped, or it takes
connections and never answers. Each access is a process of its own, so that one that hangs
in the kernel is seen as such.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.mounts import ACCESS, SECRET, UID, MountRig, eventually, free_port, mount_rig
from taccuino.storage.mount_plane.configuration import rclone_binary

pytestmark = [
    pytest.mark.faults,
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
    pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse"),
]

AN_ERROR = 20.0
"""Seconds until an access that needs the storage has failed."""
AT_ONCE = 3.0
TOLD = 12.0
MIB = 2**20


@contextlib.contextmanager
def refusing(rig: MountRig) -> Iterator[None]:
    rig.store.kill()
    try:
        yield
    finally:
        rig.store.spawn()


@contextlib.contextmanager
def dropped(rig: MountRig) -> Iterator[None]:
    table = f"taccuino-test-{rig.store.port}"
    rule = f"""table inet {table} {{
        chain input {{
            type filter hook input priority 0;
            iif lo tcp dport {rig.store.port} drop
        }}
    }}"""
    subprocess.run(["nft", "-f", "-"], input=rule, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)


@contextlib.contextmanager
def silent(rig: MountRig) -> Iterator[None]:
    rig.store.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        rig.store.signal(signal.SIGCONT)


Away = Callable[[MountRig], contextlib.AbstractContextManager[None]]
WAYS = pytest.mark.parametrize("away", [refusing, dropped, silent])


@pytest.fixture
async def rig() -> AsyncIterator[MountRig]:
    async with mount_rig() as running:
        for name, size in (("big", 64 * MIB), ("unread", MIB), ("read", 1000)):
            (running.objects / name).write_bytes(os.urandom(size))
        for name in ("known", "unknown"):
            (running.objects / name).mkdir()
            (running.objects / name / "file").write_text(name)
        (running.store.directory / "scratch/bob").mkdir()
        (running.store.directory / "scratch/bob/theirs").write_text("of bob")
        assert (await running.client.mount(running.request)).state == "mounted"
        assert told(running)["state"] == "mounted"
        yield running
        print(running.log)


async def access(code: str, *arguments: Any) -> tuple[str, float]:
    """What an access in a process of its own says (``ok`` or its error), and its seconds."""
    program = f"""
import os, sys
try:
    {code}
    print("ok")
except OSError as error:
    print(error.strerror)
"""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *map(str, arguments)), stdout=asyncio.subprocess.PIPE
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 2 * AN_ERROR)
    except TimeoutError:
        process.kill()
        return "hangs", time.monotonic() - began
    return said.decode().strip(), time.monotonic() - began


LIST, STAT = "os.listdir(sys.argv[1])", "os.stat(sys.argv[1])"
READ = "open(sys.argv[1], 'rb').read()"
WRITE = "open(sys.argv[1], 'x').write('written meanwhile')"


def told(rig: MountRig) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rig.status_file.read_text())
    return found


@WAYS
async def test_what_needs_the_storage_fails_in_time(rig: MountRig, away: Away) -> None:
    slow = "f = open(sys.argv[1], 'rb', 0); f.read(4096); print('began', flush=True)"
    under_way = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            f"import sys; {slow}; sys.stdin.read(1)\nwhile f.read(65536): 0",
        ),
        rig.bucket / "big",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert under_way.stdout is not None
    assert await under_way.stdout.readline() == b"began\n"
    await access(LIST, rig.bucket)
    with away(rig):
        answers = asyncio.gather(
            access(READ, rig.bucket / "unread"),
            access(LIST, rig.bucket / "unknown"),
            access(STAT, rig.bucket / "unknown/file"),
        )
        _, complaint = await asyncio.wait_for(under_way.communicate(b"g"), AN_ERROR)
        for said, seconds in await answers:
            assert seconds < AN_ERROR
            assert said == "Input/output error"
        assert b"Input/output error" in complaint
        # From now on nobody waits.
        for said, seconds in await asyncio.gather(
            access(READ, rig.bucket / "unread"), access(LIST, rig.bucket / "unknown")
        ):
            assert (said, seconds < AT_ONCE) == ("Input/output error", True)

    async def back() -> bool:
        return (await access(READ, rig.bucket / "unread"))[0] == "ok"

    await eventually(back, 15, "the file")


TIME = "print(os.stat(sys.argv[1]).st_mtime_ns)"
REPLACE = "open(sys.argv[1], 'w').write('written anew')"
RENAME, REMOVE = "os.rename(*sys.argv[1:])", "os.remove(sys.argv[1])"
EXPIRED = 7.0
"""Seconds until rclone lists a directory anew, and the kernel asks for a file's times."""


def relayed(rig: MountRig, *of: str) -> int:
    """How many answers the relay keeps to questions with all of these words."""
    found = 0
    for path in (rig.root / "state/mount-plane/relay/kept").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # nginx writes aside, and renames
            content = path.read_bytes()
            found += all(word.encode() in content for word in of)
    return found


@WAYS
async def test_what_is_known_can_be_used(rig: MountRig, away: Away) -> None:
    """Long after rclone's own listings have expired, and again after a kill of the relay."""
    known = [rig.bucket / "read", rig.bucket / "known/file", rig.scratch / "bob/theirs"]
    for path in known:
        assert (await access(READ, path))[0] == "ok"
    (rig.bucket / "made/here").mkdir(parents=True)
    saved = rig.bucket / "made/here/saved"
    saved.write_text("saved just before")
    await eventually((rig.objects / "made/here/saved").is_file, what="the upload")
    await eventually(
        lambda: relayed(rig, "prefix=made%2Fhere%2F\n", "here/saved</Key>"), 5, "a listing"
    )
    await eventually(lambda: relayed(rig, "HEAD", "/made/here/saved\n"), 5, "a HEAD")
    known.append(saved)
    times = [await access(TIME, path) for path in known]
    with away(rig):
        assert (await access(READ, rig.bucket / "unread"))[0] == "Input/output error"
        for turn in range(3):
            await asyncio.sleep(EXPIRED)  # what is awaited is that rclone's cache has expired
            for code, path in [
                *((LIST, path) for path in (rig.bucket, rig.scratch, saved.parent)),
                *((READ, path) for path in known),
                (WRITE, rig.bucket / f"known/new{turn}"),
            ]:
                said, seconds = await access(code, path)
                assert (said, seconds < AT_ONCE) == ("ok", True), (code, path, said, seconds)
            for path, (before, _) in zip(known, times, strict=True):
                assert (await access(TIME, path))[0] == before, path
            if turn == 0:
                relay = rig.root / "state/mount-plane/relay"
                master = int((relay / "nginx.pid").read_text())
                os.killpg(master, signal.SIGKILL)
                rig.kill_daemon(signal.SIGKILL)
                await rig.start_daemon()
                await eventually(
                    lambda pid=relay / "nginx.pid", was=master: int(pid.read_text()) != was,
                    what="nginx",
                )
        assert (await access(REPLACE, rig.bucket / "read"))[0] == "ok"
        new = rig.bucket / "known"
        assert (await access(RENAME, new / "new0", new / "renamed"))[0] == "ok"
        assert (await access(REMOVE, new / "new1"))[0] == "ok"
        # What is in the storage can be neither renamed nor deleted there, and says so.
        for code, *paths in ((RENAME, saved, saved.with_name("x")), (REMOVE, new / "file")):
            assert (await access(code, *paths))[0] == "Input/output error"
        said, seconds = await access(READ, rig.bucket / "unread")
        assert (said, seconds < AT_ONCE) == ("Input/output error", True)
    await eventually((rig.objects / "known/renamed").is_file, 30, "the upload")
    await eventually(rig.drained, 30, "the uploads")
    assert (rig.objects / "read").read_text() == "written anew"
    assert sorted(path.name for path in (rig.objects / "known").iterdir()) == [
        *("file", "new2", "renamed")
    ]
    await asyncio.sleep(EXPIRED)
    for path in known:
        assert (await access(READ, path))[0] == "ok"
    assert not [line for line in rig.log.splitlines() if "stale" in line and "theirs" in line]


async def test_only_the_users_own_rclone_gets_through_the_relay(rig: MountRig) -> None:
    config = (rig.root / "state/mount-plane/users/alice/rclone.conf").read_text()
    proxy = next(
        line.partition(" = ")[2] for line in config.splitlines() if "http_proxy" in line
    )
    secret = proxy.split("@")[0].rpartition(":")[2]
    processes = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not any(secret.encode() in words for words in processes)
    endpoint = f"{rig.settings.storage.endpoint}/alice-bucket"
    for address, status in (
        (proxy, "400"),  # the storage's own, since nothing is signed
        (proxy.replace("alice:", "bob:"), "407"),
        (proxy.replace(secret, secret[::-1]), "407"),
        (f"http://{proxy.partition('@')[2]}", "407"),
    ):
        answer = run(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-x", address, endpoint
        )
        assert answer.stdout == status, address


async def test_rclone_follows_the_relay_to_another_port(rig: MountRig) -> None:
    state = rig.root / "state/mount-plane/relay"
    port, first = json.loads((state / "relay.json").read_text())["port"], rig.rclone_pid
    rig.kill_daemon(signal.SIGKILL)
    await access(LIST, rig.bucket)
    os.kill(int((state / "pid").read_text()), signal.SIGTERM)

    def taken() -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
        return None

    with await eventually(taken, what="the relay's port"):
        (rig.bucket / "waits").write_text("saved while there was no way")
        await rig.start_daemon()
        await eventually((rig.objects / "waits").is_file, 30, "the upload")
        assert rig.rclone_pid != first
        await eventually(lambda: rig.bucket.joinpath("waits").exists(), what="the mount")


@WAYS
async def test_a_cut_is_told_and_its_end_too(rig: MountRig, away: Away) -> None:
    assert told(rig)["fault"] is None
    await access(LIST, rig.bucket)
    with away(rig):
        assert (await access(WRITE, rig.bucket / "meanwhile"))[0] == "ok"
        await eventually(lambda: told(rig)["fault"], TOLD, "the fault")
        assert (
            f"The object storage at {rig.settings.storage.endpoint} can't be reached"
            in (told(rig)["fault"])
        )
        await eventually(
            lambda: told(rig)["uploads_pending"] == 1, TOLD, "the upload that waits"
        )
        for call in (rig.client.status("alice"), rig.client.list()):
            began = time.monotonic()
            await call
            assert time.monotonic() - began < 1.0
    await eventually(lambda: told(rig)["fault"] is None, TOLD, "the end of the fault")
    await eventually((rig.objects / "meanwhile").is_file, TOLD, "the upload")
    await eventually(lambda: told(rig)["uploads_pending"] == 0, 3, "an empty queue")
    assert told(rig)["upload_errors"] == []


async def test_a_refused_write_is_told_and_forgotten(rig: MountRig) -> None:
    aside = rig.objects.rename(rig.objects.with_name("aside"))
    rig.objects.touch()  # no object can be stored: uploads are refused
    (rig.bucket / "refused.txt").write_text("x")
    await eventually(lambda: told(rig)["upload_errors"], 8, "the upload's error")
    assert "cloud_storage/alice/refused.txt" in told(rig)["upload_errors"][0]
    rig.objects.unlink()
    aside.rename(rig.objects)
    await eventually((rig.objects / "refused.txt").is_file, 30, "the upload")
    await eventually(lambda: told(rig)["upload_errors"] == [], 3, "the end of the error")


async def test_refused_credentials_are_told_and_uploads_resume(rig: MountRig) -> None:
    """As when a login has ended: the hub refuses while rclone's credentials run out."""
    seconds = 8.0
    usual = rig.credentials

    async def brief(username: str) -> dict[str, Any]:
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        return {**await usual(username), "Expiration": end.isoformat()}

    rig.credentials = brief
    await rig.client.unmount("alice")
    await rig.client.mount(rig.request)
    rig.refusal = "Your login has ended. Log in again"
    asked = len(rig.asked)
    await access(LIST, rig.bucket)

    async def refused() -> bool:
        await access(WRITE, rig.bucket / f"kept-{time.monotonic()}")
        return "Log in again" in str(told(rig)["fault"])

    await eventually(refused, 3 * seconds, "the fault")
    assert len(rig.asked) - asked < 60, "the hub is not hammered"
    rig.refusal, seconds = None, 3600.0
    await eventually(lambda: told(rig)["fault"] is None, 40, "the end of the fault")
    await eventually(lambda: told(rig)["uploads_pending"] == 0, 20, "the uploads")
    assert any(path.name.startswith("kept-") for path in rig.objects.iterdir())


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_the_status_file_is_for_reading(rig: MountRig) -> None:
    user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    assert json.loads(run(*user, "cat", rig.status_file).stdout) == told(rig)
    for change in (["rm", rig.status_file], ["touch", rig.status_file.parent / "x"]):
        assert run(*user, *change).returncode != 0
    rig.kill_daemon(signal.SIGKILL)
    rig.status_file.unlink()
    await rig.start_daemon()
    await eventually(rig.status_file.exists, 5, "the status file of the next daemon")
    await rig.client.unmount("alice")
    assert not rig.status_file.exists()


async def test_a_killed_relay_comes_back(rig: MountRig) -> None:
    relay = rig.root / "state/mount-plane/relay/pid"
    first = relay.read_text()
    for pid in (first, *run("pgrep", "-P", first.strip()).stdout.split()):
        os.kill(int(pid), signal.SIGKILL)
    await eventually(lambda: relay.read_text() != first, what="another relay")

    async def readable() -> bool:
        return (await access(READ, rig.bucket / "unread"))[0] == "ok"

    await eventually(readable, what="the object storage")


async def test_the_relay_speaks_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    assert run("openssl", *request, *names, "-keyout", key, "-out", certificate).stderr
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    objects, port = tmp_path / "store/alice-bucket", free_port()
    objects.mkdir(parents=True)
    (objects.parent / "scratch").mkdir()
    (objects / "there").write_text("over TLS")
    store = await asyncio.create_subprocess_exec(
        *(rclone_binary(), "serve", "s3", objects.parent, "--addr", f"localhost:{port}"),
        *("--cert", certificate, "--key", key, "--auth-key", f"{ACCESS},{SECRET}"),
        *("--config", "/dev/null"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with mount_rig(f"https://localhost:{port}") as rig:
            status = await rig.client.mount(rig.request)
            assert (status.state, status.fault) == ("mounted", None)
            assert (rig.bucket / "there").read_text() == "over TLS"
            (rig.bucket / "new").write_text("also")
            await eventually((objects / "new").is_file, what="the upload")
    finally:
        store.kill()
        await store.wait()
