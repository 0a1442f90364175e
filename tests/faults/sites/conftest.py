"""Two sites in network namespaces of their own, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.instance import Instance
from support.two_sites import Site, two_sites, wait_for_sites

Pair = tuple[Instance, dict[str, Site]]


@pytest.fixture(scope="package")
def pair() -> Iterator[Pair]:
    """What the sites share, and the sites by name."""
    with two_sites() as (shared, sites):
        wait_for_sites(shared)
        yield shared, sites
