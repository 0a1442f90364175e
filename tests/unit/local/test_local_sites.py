"""Several sites on one machine: what each has for itself, and what they share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from taccuino.edge import haproxy_config
from taccuino.errors import ServiceError, SettingsError
from taccuino.local import sites
from taccuino.local.namespaces import SiteNetwork
from taccuino.local.resolve import keep, resolve
from taccuino.local.services import service_names
from taccuino.local.sites import sites_of
from taccuino.local.status import compose, status
from taccuino.settings import Settings


def shared(state: Path, *names: str, **local: object) -> Settings:
    settings = Settings.parse(
        {"state_dir": state, "port": 20500, "local": {"sites": list(names), **local}}
    )
    return keep(resolve(settings, taken=lambda _: None))


def test_a_site_has_its_own_and_knows_the_others(tmp_path: Path) -> None:
    settings = shared(tmp_path / "s", "bari", "cnaf", "napoli")
    found = sites_of(settings)
    assert [site.site for site in found] == ["bari", "cnaf", "napoli"]
    assert [[peer.name for peer in site.peers] for site in found] == [
        ["cnaf", "napoli"],
        ["bari", "napoli"],
        ["bari", "cnaf"],
    ]
    for own in (
        lambda site: site.state_dir,
        lambda site: site.port,
        lambda site: site.edge.proxy_port,
        lambda site: site.edge.admin_socket,
        lambda site: site.engine.network_pool,
        lambda site: site.engine.socket,
        lambda site: site.engine.uid_base,
        lambda site: site.hub.database_url,
        lambda site: site.mount_plane.cache_directory,
        lambda site: site.workarea.directory,
    ):
        assert len({str(own(site)) for site in found}) == len(found)
    for common in (
        lambda site: site.url,
        lambda site: site.iam.issuer,
        lambda site: site.iam.client_secret_file,
        lambda site: site.storage.endpoint,
        lambda site: site.storage.admin_credentials_file,
        lambda site: site.sites.secret_file,
        lambda site: site.snapshots.key_file,
    ):
        assert len({str(common(site)) for site in found}) == 1
    assert {site.url for site in found} == {settings.url}


def test_what_is_shared_runs_without_a_hub(tmp_path: Path) -> None:
    settings = shared(tmp_path / "s", "bari", "cnaf")
    assert service_names(settings) == ["ceph-mon", "ceph-osd", "radosgw", "iam", "edge"]
    assert settings.hub.port is None
    (bari, _) = sites_of(settings)
    assert "hub" in service_names(bari)
    assert not {"iam", "radosgw"} & set(service_names(bari))


def test_the_sites_of_an_earlier_run_stay(tmp_path: Path) -> None:
    shared(tmp_path / "s", "bari", "cnaf")
    assert shared(tmp_path / "s").local.sites == ["bari", "cnaf"]
    with pytest.raises(SettingsError, match="has the sites bari, cnaf"):
        shared(tmp_path / "s", "bari", "napoli")


def test_one_site_is_not_made_several(tmp_path: Path) -> None:
    shared(tmp_path / "s")
    with pytest.raises(SettingsError, match="is one site, with its users' files"):
        shared(tmp_path / "s", "bari", "cnaf")


@pytest.mark.parametrize(
    "names", [("bari",), ("bari", "bari"), ("a", "b", "c", "d", "e"), ("B", "c")]
)
def test_names_that_can_not_be(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        shared(tmp_path / "s", *names)


def test_sites_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACCUINO_SITES", " bari, cnaf ,")
    assert Settings.load().local.sites == ["bari", "cnaf"]
    monkeypatch.setenv("TACCUINO_SITES", "")
    assert Settings.load().local.sites == []


def test_in_namespaces_each_site_has_an_address(tmp_path: Path) -> None:
    settings = shared(tmp_path / "s", "bari", "cnaf", namespaces=True)
    network = SiteNetwork(20500)
    bari, cnaf = sites_of(settings)
    assert settings.host == network.shared
    assert [bari.host, cnaf.host] == [network.address(0), network.address(1)]
    assert {bari.port, cnaf.port} == {20500}
    assert bari.peers[0].url == f"http://{network.address(1)}:20500"
    assert all(len(name) <= 15 for name in (network.bridge, network.link(3)))


@pytest.mark.parametrize("port", [1, 8000, 64999])
def test_networks_of_instances_are_shared_addresses(port: int) -> None:
    """Of RFC 6598: 100.64.0.0/10."""
    first, second, third, _ = map(int, SiteNetwork(port).shared.split("."))
    assert first == 100
    assert 64 <= second < 128
    assert third < 256


def test_the_status_is_that_of_all(tmp_path: Path) -> None:
    settings = shared(tmp_path / "s", "bari", "cnaf")
    states = [compose(site, [], [], ready=site.site == "cnaf") for site in sites_of(settings)]
    answer = compose(settings, [], [], sites=states)
    assert [(site["name"], site["ready"]) for site in answer["sites"]] == [
        ("bari", False),
        ("cnaf", True),
    ]
    assert answer["ready"]
    assert {"iam", "bari/hub", "cnaf/hub"} <= {one["name"] for one in answer["services"]}
    assert not compose(settings, [], [], sites=[])["ready"]


def test_the_door_goes_by_the_cookie(tmp_path: Path) -> None:
    settings = shared(tmp_path / "s", "bari", "cnaf")
    places = [(site.site, f"{site.host}:{site.edge.proxy_port}") for site in sites_of(settings)]
    text = haproxy_config(settings, sites=places)
    assert "use-server bari if { req.cook(taccuino-site) -m str bari }" in text
    assert f"server cnaf localhost:{20500 + 21}" in text
    assert "frontend service" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peers": [{"name": "cnaf", "url": "http://b"}]}, "secret_file"),
        ({"site": "cnaf", "peers": [{"name": "cnaf", "url": "http://b"}]}, "a name of its own"),
        ({"peers": [{"name": "cnaf", "url": "cnaf.example.org"}]}, "peers"),
        ({"peers": [{"name": "cnaf", "url": "https://b", "weight": 0}]}, "peers"),
        ({"address": "notebooks.example.org"}, "address"),
    ],
)
def test_peers_that_can_not_be(changes: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.parse(changes)


def test_who_only_looks_makes_no_secret(tmp_path: Path) -> None:
    """As ``taccuino status`` does, by a user who can write nothing there."""
    settings = Settings.parse({"state_dir": tmp_path / "s", "local": {"sites": ["a", "b"]}})
    status(settings)
    assert not (tmp_path / "s").exists()
    secret = sites_of(shared(tmp_path / "s", "a", "b"))[0].sites.secret_file
    assert secret is not None
    assert secret.stat().st_mode & 0o777 == 0o600
    shared(tmp_path / "one")
    assert not (tmp_path / "one/secrets/sites").exists()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is run in the place of ``taccuino``: a file for a shell script."""
    script = tmp_path / "taccuino"
    script.touch(mode=0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(sites, "_UP_SECONDS", 1.0)
    return script


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("exit 1", r"bari: `taccuino up` failed:\n  hub ready"),
        ("exec sleep 60", r"bari: `taccuino up` took longer than 1 s:\n  hub ready"),
        ("exec >&- 2>&-; exec sleep 60", r"bari: `taccuino up` took longer than 1 s"),
    ],
)
def test_a_site_that_does_not_come_up_is_told_of(
    tmp_path: Path, stand_in: Path, words: str, problem: str
) -> None:
    stand_in.write_text(f"#!/bin/sh\necho '  hub ready'; echo panel\n{words}\n")
    told: list[str] = []
    with pytest.raises(ServiceError, match=problem):
        sites.up_sites(shared(tmp_path / "s", "bari", "cnaf"), told.append)
    assert told == ["bari: hub ready"]
