"""The pool with servers that need no engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taccuino.engines.errors import ContainerExitedError, EngineError
from taccuino.engines.uid_ranges import UidRange
from taccuino.engines.warm import WarmPool, pool, server
from taccuino.settings import Settings

ABLE = {"Entrypoint": ["tini", "--", "taccuino-server"], "Labels": {"taccuino.warm": "2"}}


class StandInServer:
    """A warm server as the pool sees it."""

    made: list[StandInServer] = []
    fails: Exception | None = None

    def __init__(
        self, _settings: Any, _engine: Any, image: str, image_id: str, uids: UidRange
    ) -> None:
        self.image, self.image_id, self.uids = image, image_id, uids
        self.name = f"warm-{len(self.made)}"
        self.usable = self.discarded = False
        self.made.append(self)

    async def start(self, _uids: UidRange | None, on_death: Callable[[], None]) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails
        self.on_death = on_death
        self.usable = True

    async def discard(self) -> None:
        await asyncio.sleep(0)
        self.usable, self.discarded = False, True

    def die(self) -> None:
        self.usable = False
        self.on_death()


class StandInEngine:
    def __init__(self) -> None:
        self.images: dict[str, dict[str, Any]] = {"base": {"Id": "1", "Config": ABLE}}

    async def image(self, reference: str) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return self.images.get(reference)

    async def image_id(self, reference: str) -> str | None:
        info = await self.image(reference)
        return info["Id"] if info else None


class Rig:
    def __init__(self, directory: Path, **warm: Any) -> None:
        directory /= "state"
        mounts = {"directory": str(directory / "mounts")}
        settings = {"state_dir": str(directory), "warm": warm, "mount_plane": mounts}
        self.engine = StandInEngine()
        self.offered = ["base"]
        self.can_show = True
        self.used: set[int] = set()
        self.pool = WarmPool(
            Settings.parse(settings),
            lambda: self.offered,
            self._used,
            self._supported,
        )

    async def _used(self) -> set[int]:
        return self.used

    async def _supported(self) -> bool:
        return self.can_show


@pytest.fixture
def rigs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rig]:
    monkeypatch.setattr(pool, "WarmServer", StandInServer)
    monkeypatch.setattr(StandInServer, "made", [])
    monkeypatch.setattr(StandInServer, "fails", None)

    def make(**warm: Any) -> Rig:
        rig = Rig(tmp_path, **warm)
        monkeypatch.setattr(pool, "engine_for", lambda _: rig.engine)
        return rig

    return make


async def test_fifty_claims_at_once_get_different_servers(rigs: Callable[..., Rig]) -> None:
    rig = rigs(servers=8)
    await rig.pool._level()
    assert len(rig.pool.names) == 8

    async def claim() -> Any:
        await asyncio.sleep(0)
        return rig.pool.claim("base")

    got = [one for one in await asyncio.gather(*(claim() for _ in range(50))) if one]
    assert len(got) == len({one.name for one in got}) == 8
    assert rig.pool.names == []
    assert rig.pool.claim("base") is None


async def test_the_pool_fills_itself_by_demand_and_each_has_its_own_uids(
    rigs: Callable[..., Rig],
) -> None:
    rig = rigs(servers=1)
    for _ in range(5):
        rig.pool.note_start("base")
    rig.pool._last_start = 0.0
    first = UidRange(3_000_000).uid
    rig.used = {first}
    await rig.pool._level()
    uids = [one.uids.uid for one in StandInServer.made]
    assert len(set(uids)) == len(uids) == 5
    assert first not in uids


async def test_one_that_was_claimed_is_nobody_elses_until_its_spawner_has_it(
    rigs: Callable[..., Rig],
) -> None:
    """Neither its host uids nor its name: it would be removed as an orphan."""
    rig = rigs(servers=1)
    await rig.pool._level()
    claimed = rig.pool.claim("base")
    assert claimed is not None
    await rig.pool._level()
    made = StandInServer.made[-1]
    assert made is not claimed
    assert made.uids.uid != claimed.uids.uid
    assert [one.name for one in rig.pool.held] == [made.name, claimed.name]
    rig.pool.settled(claimed)
    assert [one.name for one in rig.pool.held] == [made.name]


async def test_an_image_that_never_becomes_ready_is_left_alone_for_a_while(
    rigs: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = rigs(servers=1)
    monkeypatch.setattr(StandInServer, "fails", ContainerExitedError("it says nothing"))
    await rig.pool._level()
    await rig.pool._level()
    assert len(StandInServer.made) == 1
    assert StandInServer.made[0].discarded


async def test_one_that_died_is_never_handed_out(rigs: Callable[..., Rig]) -> None:
    rig = rigs(servers=2)
    await rig.pool._level()
    dead, alive = StandInServer.made
    dead.die()
    assert rig.pool.claim("base") is alive
    await rig.pool._level()
    assert dead.discarded
    assert dead.name not in rig.pool.names


async def test_an_image_that_was_made_anew(rigs: Callable[..., Rig]) -> None:
    rig = rigs(servers=1)
    await rig.pool._level()
    claimed = rig.pool.claim("base")
    await rig.pool.check_image(claimed)
    await rig.pool._level()
    rig.engine.images["base"] = {"Id": "2", "Config": ABLE}
    with pytest.raises(EngineError, match="made anew"):
        await rig.pool.check_image(claimed)
    await rig.pool._level()
    assert [one.image_id for one in StandInServer.made if one.usable] == ["1", "2"]
    assert not claimed.discarded  # it is not the pool's any more


async def test_an_offer_that_is_withdrawn(rigs: Callable[..., Rig]) -> None:
    rig = rigs(servers=1)
    await rig.pool._level()
    rig.offered = []
    await rig.pool._level()
    assert StandInServer.made[0].discarded


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"Entrypoint": None, "Labels": None},
        ABLE | {"Labels": {}},
        ABLE | {"Entrypoint": ["start.sh"]},
        ABLE | {"Cmd": ["jupyter", "lab"]},
    ],
)
async def test_an_image_that_cannot_wait_starts_the_plain_way(
    rigs: Callable[..., Rig], config: dict[str, Any]
) -> None:
    rig = rigs()
    rig.engine.images["base"] = {"Id": "1", "Config": config}
    await rig.pool._level()
    assert StandInServer.made == []
    assert rig.pool.claim("base") is None


async def test_what_cannot_be_filled_is_no_error_and_not_tried_all_the_time(
    rigs: Callable[..., Rig],
) -> None:
    rig = rigs()
    StandInServer.fails = EngineError("no space left")
    for _ in range(5):
        await rig.pool._level()
    assert len(StandInServer.made) == 1
    assert StandInServer.made[0].discarded
    assert rig.pool.names == []


async def test_starts_come_before_the_pool(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.pool.cold_starts = 1
    await rig.pool._level()
    assert StandInServer.made == []


async def test_a_kernel_without_idmapped_mounts(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.can_show = False
    await rig.pool._level()
    assert StandInServer.made == []


async def test_switched_off_it_lets_go(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    await rig.pool._level()
    rig.pool.switch_off("a volume of each user's")
    await rig.pool._level()
    assert all(one.discarded for one in StandInServer.made)


async def test_places_without_a_server_are_removed(
    rigs: Callable[..., Rig], tmp_path: Path
) -> None:
    rig = rigs(servers=1)
    places = tmp_path / "state/mounts" / server.PLACES
    (places / "taccuino-8000-warm-0").mkdir(parents=True)
    (places / "in-use/files").mkdir(parents=True)
    await rig.pool._level()
    assert [place.name for place in places.iterdir()] == ["in-use"]


async def test_the_place_of_a_claimed_server_stays_until_it_is_used(
    rigs: Callable[..., Rig], tmp_path: Path
) -> None:
    """Its container has bound it: another directory of the name would not be the same."""
    rig = rigs(servers=1)
    await rig.pool._level()
    claimed = rig.pool.claim("base")
    place = tmp_path / "state/mounts" / server.PLACES / claimed.name
    place.mkdir(parents=True)
    await rig.pool._level()
    assert place.is_dir()
    rig.pool.settled(claimed)
    await rig.pool._level()
    assert not place.exists()


async def test_it_runs_until_it_is_cancelled(rigs: Callable[..., Rig]) -> None:
    rig = rigs(servers=1)
    running = asyncio.create_task(rig.pool.run())

    async def until(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the condition is the pool's
                await asyncio.sleep(0)

    await until(lambda: StandInServer.made and StandInServer.made[0].usable)
    StandInServer.made[0].die()
    await until(lambda: len(StandInServer.made) > 1)
    running.cancel()
    for one in StandInServer.made:
        one.link = type("Line", (), {"close": lambda _: None})()
    with pytest.raises(asyncio.CancelledError):
        await running
