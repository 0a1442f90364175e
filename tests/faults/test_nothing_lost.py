"""Whatever is killed, and whenever: what was saved is in the bucket afterwards, byte for byte.

A program in a real container saves files in ``cloud_storage`` in the ways in which programs do
(`support.writer`) while a fault comes at a random moment. Then every object is compared with
what the program noted once ``close()``, ``fsync()`` or ``rename()`` had returned.

``TACCUINO_FAULT_ROUNDS`` repeats each fault, ``TACCUINO_FAULT_SEED`` repeats one exactly, and
``TACCUINO_FAULT_TABLE=FILE`` puts the table of outcomes into that file.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.ground import Ground, Ledger, Outcome, until
from support.instance import Instance, new_instance, running_instance
from support.reliability import EVERY, write_table
from taccuino.storage.names import role_name
from taccuino.storage.policies import policy_text

pytestmark = [
    pytest.mark.faults,
    pytest.mark.integration,
    pytest.mark.timeout(1800),
]

ROUNDS = int(os.environ.get("TACCUINO_FAULT_ROUNDS", "1"))
SEED = os.environ.get("TACCUINO_FAULT_SEED")
AWAY = float(os.environ.get("TACCUINO_FAULT_AWAY_SECONDS", "20"))
LIMIT = 300.0
CACHE_DISK = "600M"

outcomes: list[Outcome] = []


@pytest.fixture(scope="module")
def broken() -> Iterator[Instance]:
    """An instance of one's own whose caches lie on a small disk."""
    if os.environ.get("TACCUINO_TEST_INSTANCE"):
        with running_instance() as running:
            yield running
        return
    root = Path(tempfile.mkdtemp(prefix="tcd-", dir="/tmp"))
    image, disk = root / "image", root / "disk"
    disk.mkdir()
    try:
        subprocess.run(["truncate", "--size", CACHE_DISK, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        with new_instance(f'[mount_plane]\ncache_directory = "{disk}/cache"\n') as running:
            yield running
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """The outcomes of all faults, where a file for them is named."""
    yield
    if outcomes and (file := os.environ.get("TACCUINO_FAULT_TABLE")):
        write_table(Path(file), outcomes)


@pytest.fixture
def ground(broken: Instance) -> Iterator[Ground]:
    """Alice's server runs."""
    seed = int(SEED) if SEED else random.SystemRandom().randrange(10**6)
    print(f"TACCUINO_FAULT_SEED={seed}")
    ground = Ground(broken, "alice", seed)
    broken.wait_until_ready()
    ground.person.stop()
    ground.start_server()
    try:
        yield ground
    finally:
        ground.close()
        _free_disk(ground)


def _of(ground: Ground, fault: str, ledger: Ledger) -> None:
    """Compare, keep the outcome for the table, and judge it."""
    outcome = ground.outcome(fault, ledger, LIMIT)
    outcomes.append(outcome)
    print(outcome)
    assert outcome.saved > 3
    assert not outcome.lost, f"seed {ground.seed}: {outcome.lost}"


def _rclone(ground: Ground) -> None:
    ground.kill_rclone()


def _mount_plane(ground: Ground) -> None:
    ground.instance.kill("mount-plane")


def _relay(ground: Ground) -> None:
    ground.kill_relay()


def _both(ground: Ground) -> None:
    ground.instance.kill("mount-plane")
    ground.kill_rclone()


def _hub(ground: Ground) -> None:
    ground.instance.kill("hub")


def _edge(ground: Ground) -> None:
    ground.instance.kill("edge")


def _storage(ground: Ground) -> None:
    ground.instance.kill("radosgw")


KILLED: dict[str, Callable[[Ground], None]] = {
    "rclone killed": _rclone,
    "mount plane killed": _mount_plane,
    "the way to the storage killed": _relay,
    "rclone and mount plane killed": _both,
    "hub killed": _hub,
    "edge killed": _edge,
    "object storage killed": _storage,
}
_OFTEN = ["rclone killed", "mount plane killed", "hub killed", "object storage killed"]


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("fault", KILLED if EVERY else _OFTEN)
def test_killed_while_files_are_saved(ground: Ground, fault: str, round_: int) -> None:
    """The program goes on, and is told where something can't be saved."""
    program = ground.write(seconds=8)
    ground.some_time()
    KILLED[fault](ground)
    program.wait(timeout=120)
    ground.instance.wait_until_ready()
    assert ground.ledger().done
    _of(ground, fault, ground.ledger())


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_container_killed(ground: Ground, round_: int) -> None:
    ground.write(seconds=60)
    ground.some_time()
    ground.kill_container()
    _of(ground, "container killed", ground.ledger())


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_everything_killed_at_once(ground: Ground, round_: int) -> None:
    """The whole service with its object storage, and the containers; then it starts again."""
    ground.write(seconds=60)
    ground.some_time()
    ground.kill_machine()
    ledger = ground.ledger()
    ground.instance.run("up", timeout=300)
    ground.instance.wait_until_ready()
    _of(ground, "everything on the machine killed", ledger)


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("way", ["refuses connections", "hangs"])
def test_storage_away(ground: Ground, way: str, round_: int) -> None:
    """The program saves as if nothing were."""
    program = ground.write(seconds=AWAY + 4, pause=AWAY / 200)  # all fits into the cache
    ground.some_time()
    away = ground.instance.without if way == "refuses connections" else ground.instance.hanging
    with away("radosgw"):
        time.sleep(AWAY)
    program.wait(timeout=120)
    _of(ground, f"object storage {way} for {AWAY:g} s", ground.ledger())


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_storage_away_and_everything_else_killed(ground: Ground, round_: int) -> None:
    """Nothing but the cache on this machine has what was saved."""
    program = ground.write(seconds=6)
    ground.some_time()
    with ground.instance.without("radosgw"):
        program.wait(timeout=60)
        ground.instance.kill("mount-plane")
        ground.kill_rclone()
        ground.kill_container()
    _of(ground, "object storage away, then the rest killed", ground.ledger())


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_credentials_refused(ground: Ground, round_: int) -> None:
    """The storage refuses the user's role for a while."""
    iam = ground.admin("iam")
    role = role_name(ground.settings, ground.person.username)
    (policy,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    answer = iam.get_role_policy(RoleName=role, PolicyName=policy)
    text = policy_text(answer["PolicyDocument"])
    program = ground.write(seconds=10)
    ground.some_time()
    iam.delete_role_policy(RoleName=role, PolicyName=policy)
    try:
        program.wait(timeout=60)
        until(lambda: ground.status().upload_errors, 60, ground.status)
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=text)
    _of(ground, "credentials refused for a while", ground.ledger())


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_disk_of_the_cache_full(ground: Ground, round_: int) -> None:
    """What does not fit is refused; what was taken is kept."""
    if not os.path.ismount(_cache(ground).parent):
        pytest.skip("the caches have no disk of their own here")
    program = ground.write(seconds=12)
    ground.some_time()
    ballast = _cache(ground).parent / "ballast"
    free = shutil.disk_usage(ballast.parent).free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - ground.chance.randrange(1 << 20)))
    ground.some_time(3, 6)
    if ground.chance.random() < 0.5:
        ground.kill_rclone()
        ground.some_time(1, 2)
    ballast.unlink()
    program.wait(timeout=120)
    _of(ground, "disk of the cache full", ground.ledger())


def _cache(ground: Ground) -> Path:
    directory = ground.settings.mount_plane.cache_directory
    assert directory is not None
    return directory


def _free_disk(ground: Ground) -> None:
    (_cache(ground).parent / "ballast").unlink(missing_ok=True)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_stopped_while_uploads_wait(ground: Ground, round_: int) -> None:
    """A stop waits for the uploads; if they can't be done they go on, and are found again."""
    program = ground.write(seconds=4)
    program.wait(timeout=60)
    ledger = ground.ledger()
    with ground.instance.without("radosgw"):
        ground.write(seconds=2).wait(timeout=60)
        ledger = ground.ledger()
        ground.person.stop(limit=150)
        assert ground.pending(), "they wait in the background"
        told = ground.person.api("GET", "/taccuino/storage").json()
        assert told["uploads_pending"] >= 1, "the home page says so"
    _of(ground, "stopped with the object storage away", ledger)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_service_shut_down_while_uploads_wait(ground: Ground, round_: int) -> None:
    """``scripts/down`` drains what it can; the next ``up`` finds the rest."""
    ground.write(seconds=3, pause=0).wait(timeout=60)
    ledger = ground.ledger()
    assert ground.pending()
    ground.instance.run("down", timeout=300)
    ground.instance.run("up", timeout=300)
    _of(ground, "service shut down and started", ledger)
