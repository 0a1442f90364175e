"""The container's rights and limits in the engines' words."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

from taccuino.engines.container import ContainerSpec, docker_config, podman_config
from taccuino.engines.storage_port import Bind
from taccuino.engines.uid_ranges import UidRange

SPEC = ContainerSpec(
    image="localhost/base:latest",
    environment={"B": "2", "A": "1 = {x}"},
    labels={"taccuino.user": "alice"},
    network="tc-8000-abc",
    cpus=0.5,
    memory=1 << 30,
    pids_limit=4096,
    binds=(
        Bind(Path("/m/alice/workarea"), "/workarea"),
        Bind(Path("/data"), "/data", read_only=True, propagation="private"),
    ),
    hosts={"taccuino-edge": "10.90.0.1"},
    uids=UidRange(3_000_000),
)


def open_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 16_384 if hard == resource.RLIM_INFINITY else min(16_384, hard)


def test_docker() -> None:
    config = docker_config(SPEC)
    host = config.pop("HostConfig")
    ulimits = {item["Name"]: item["Hard"] for item in host.pop("Ulimits")}
    assert config == {
        "Image": "localhost/base:latest",
        "User": "1000:1000",
        "Env": ["A=1 = {x}", "B=2"],
        "Labels": {"taccuino.user": "alice"},
    }
    assert host == {
        "NetworkMode": "tc-8000-abc",
        "ExtraHosts": ["taccuino-edge:10.90.0.1"],
        "Binds": ["/m/alice/workarea:/workarea:rw,rslave", "/data:/data:ro,private"],
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "NanoCpus": 500_000_000,
        "Memory": 1 << 30,
        "MemorySwap": 1 << 30,
        "ShmSize": 1 << 29,
        "PidsLimit": 4096,
        "OomScoreAdj": 500,
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "4194304"}},
    }
    assert ulimits["nofile"] == open_files()


def test_podman() -> None:
    config = podman_config("taccuino-8000-alice", SPEC)
    ulimits = {item["type"]: item["hard"] for item in config.pop("r_limits")}
    mapping = [{"container_id": 0, "host_id": 3_000_000, "size": 65_536}]
    assert config == {
        "name": "taccuino-8000-alice",
        "image": "localhost/base:latest",
        "user": "1000:1000",
        "env": {"B": "2", "A": "1 = {x}"},
        "labels": {"taccuino.user": "alice"},
        "netns": {"nsmode": "bridge"},
        "networks": {"tc-8000-abc": {}},
        "hostadd": ["taccuino-edge:10.90.0.1"],
        "mounts": [
            {
                "type": "bind",
                "source": "/m/alice/workarea",
                "destination": "/workarea",
                "options": ["rbind", "rw", "rslave"],
            },
            {
                "type": "bind",
                "source": "/data",
                "destination": "/data",
                "options": ["rbind", "ro", "private"],
            },
        ],
        "privileged": False,
        "cap_drop": ["ALL"],
        "no_new_privileges": True,
        "resource_limits": {
            "cpu": {"period": 100_000, "quota": 50_000},
            "memory": {"limit": 1 << 30, "swap": 1 << 30},
            "pids": {"limit": 4096},
        },
        "shm_size": 1 << 29,
        "oom_score_adj": 500,
        "restart_policy": "no",
        "stop_timeout": 0,
        "log_configuration": {"driver": "k8s-file", "size": 4_194_304},
        "userns": {"nsmode": "private"},
        "idmappings": {"UIDMap": mapping, "GIDMap": mapping},
    }
    assert ulimits["nofile"] == open_files()


def test_without_uids_the_engine_maps_by_itself() -> None:
    config = podman_config("a", dataclasses.replace(SPEC, uids=None))
    assert not {"userns", "idmappings"} & set(config)


def test_command_takes_the_place_of_the_image_s() -> None:
    for configure in (docker_config, lambda spec: podman_config("a", spec)):
        spec = dataclasses.replace(SPEC, command=("jupyterhub-singleuser",))
        assert not {"Cmd", "command", "Entrypoint", "entrypoint"} & set(configure(SPEC))
        assert {"Cmd", "command"} & set(configure(spec))
