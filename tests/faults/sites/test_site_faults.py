"""A site is lost, or half lost, under twenty users at work: who notices, and what is kept?"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.instance import Instance
from support.people import make_accounts
from support.reliability import EVERY, write_sites
from support.two_sites import SITES, Site, users_s3, wait_for_sites
from support.visitor import Record, Trouble, Visitor
from taccuino.sites import Place, home
from taccuino.storage.names import bucket_name

pytestmark = pytest.mark.integration

USERS = int(os.environ.get("TACCUINO_FAULT_USERS", "20"))
BEFORE, DURING, AFTER = 4.0, 10.0, 4.0
PAGE_SECONDS = 5.0
"""Until a page is served again, with a site or its hub lost."""
PLACES = [Place(name) for name in SITES]
outcomes: list[SiteOutcome] = []


@dataclass
class SiteOutcome:
    """What a crowd of users noticed of one fault."""

    fault: str
    users: int
    requests: int = 0
    failed: int = 0
    dropped: int = 0
    elsewhere: int = 0
    """Of the failures, those of users whose server was at the other site."""
    uploads: int = 0
    """Files that waited for their upload at the faulty site when the fault came."""
    troubles: list[Trouble] = field(default_factory=list)
    saved: int = 0
    lost: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    """Users with servers at both sites in the end."""


@dataclass
class Crowd:
    """The users, and the sites they are at."""

    shared: Instance
    sites: dict[str, Site]
    visitors: list[Visitor]

    def lost(self, visitor: Visitor, saved: dict[str, str]) -> list[str]:
        """What of that a user saved and is not in their bucket."""
        bucket = bucket_name(self.shared.settings, visitor.name)
        return visitor.lost(users_s3(self.sites, visitor.name), bucket, saved)

    def homes(self) -> dict[str, set[str]]:
        """The sites at which each user has a server."""
        return {
            visitor.name: {
                name for name, site in self.sites.items() if site.serves(visitor.name)
            }
            for visitor in self.visitors
        }

    def gather(self) -> None:
        """Let all be at work where they belong, also those that the last fault drove away."""
        self.until_all_work()
        for visitor in self.visitors:
            if len({*self.homes()[visitor.name]} | {home(visitor.name, PLACES)}) > 1:
                visitor.come_anew()
                time.sleep(0.3)
        self.until_all_work()

    def until_all_work(self, limit: float = 120) -> None:
        """Wait until everybody has arrived, and nobody is in trouble."""
        deadline = time.monotonic() + limit
        while busy := [v for v in self.visitors if v.arrives or v.in_trouble]:
            for visitor in self.visitors:
                if visitor.fault:
                    raise visitor.fault
            assert time.monotonic() < deadline, [(v.name, v.doing, v.record) for v in busy]
            time.sleep(0.2)


@pytest.fixture(scope="module")
def crowd(pair: tuple[Instance, dict[str, Site]]) -> Iterator[Crowd]:
    """Twenty users at work at two sites."""
    shared, sites = pair
    people = make_accounts(shared, [f"crowd{n:02d}" for n in range(USERS)])
    chance = random.SystemRandom().randrange(10**6)
    visitors = [
        Visitor(person, chance + n, restarts=n % 5 == 4) for n, person in enumerate(people)
    ]
    for visitor in visitors:
        visitor.start()
        time.sleep(0.3)
    try:
        yield Crowd(shared, sites, visitors)
    finally:
        for visitor in visitors:
            visitor.end()
        for visitor in visitors:
            visitor.join(30)


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """What was noticed of all faults, where a file for it is named."""
    yield
    if outcomes and (file := os.environ.get("TACCUINO_FAULT_TABLE")):
        write_sites(Path(file), outcomes)


FAULTS: dict[str, Callable[[Site], contextlib.AbstractContextManager[None]]] = {
    "site killed": Site.gone,
    "network of a site cut": Site.cut_off,
    "link between the sites cut": Site.cut_from_peer,
    "hub killed": lambda site: site.killed("hub"),
    "hub stopped": lambda site: site.without("hub"),
    "hub hangs": lambda site: site.hanging("hub"),
    "edge killed": lambda site: site.killed("edge"),
    "edge stopped": lambda site: site.without("edge"),
    "disk full": Site.full_disk,
    "engine hangs": lambda site: site.hanging("engine"),
    "mount plane killed": lambda site: site.killed("mount-plane"),
}


SERVED_SOON = {"site killed", "hub killed", "hub stopped"}


@pytest.mark.parametrize("fault", FAULTS if EVERY else ["site killed"])
def test_users_at_work(crowd: Crowd, fault: str) -> None:
    """Nothing is lost, and who is at the other site notices nothing."""
    crowd.gather()
    site = crowd.sites[random.choice(SITES)]
    homes = crowd.homes()
    for visitor in crowd.visitors:
        visitor.record = Record()
    time.sleep(BEFORE)
    print(fault, "at", site.name, {name: sorted(at) for name, at in homes.items()})
    uploads = site.uploads()
    with FAULTS[fault](site):
        time.sleep(DURING)
    wait_for_sites(crowd.shared)
    time.sleep(AFTER)
    crowd.until_all_work()
    outcome = _outcome(crowd, fault, site, homes)
    outcome.uploads = uploads
    outcomes.append(outcome)
    print(outcome)
    assert not outcome.lost
    assert not outcome.doubles
    if fault != "link between the sites cut":
        assert outcome.elsewhere == 0, outcome.troubles
    if fault in SERVED_SOON:
        late = [one for one in outcome.troubles if (one.page_after or 0) > PAGE_SECONDS]
        assert not late, late


def _outcome(crowd: Crowd, fault: str, site: Site, homes: dict[str, set[str]]) -> SiteOutcome:
    outcome = SiteOutcome(fault, len(crowd.visitors))
    for visitor in crowd.visitors:
        record = visitor.record
        outcome.requests += record.requests
        outcome.failed += record.failed
        outcome.dropped += record.dropped
        outcome.troubles += record.troubles
        if not visitor.restarts and site.name not in homes[visitor.name]:
            outcome.elsewhere += record.failed
        outcome.saved += len(visitor.saved)
    # They go on meanwhile: what they save from now on is the next outcome's.
    saved = {visitor.name: dict(visitor.saved) for visitor in crowd.visitors}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        outcome.lost = [
            lost
            for visitor in crowd.visitors
            for lost in crowd.lost(visitor, saved[visitor.name])
        ]
        outcome.doubles = [name for name, at in crowd.homes().items() if len(at) > 1]
        if not outcome.lost and not outcome.doubles:
            break
        time.sleep(2)
    return outcome
