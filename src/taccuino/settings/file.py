"""The whole of the settings, and the file that they are read from."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from taccuino.errors import Fault, SettingsError
from taccuino.private_files import write_private

from .sections import (
    AdmissionSettings,
    CullingSettings,
    EdgeSettings,
    EngineSettings,
    FlavourSettings,
    HubSettings,
    IAMSettings,
    ImageSettings,
    LocalSettings,
    MountPlaneSettings,
    PeerSettings,
    Section,
    SitesSettings,
    SnapshotSettings,
    StorageSettings,
    WarmSettings,
    WorkareaSettings,
)

__all__ = ["Settings"]

_NAME = re.compile(r"^[A-Za-z0-9 ._-]{1,40}$")


class Settings(Section):
    """All of Taccuino's settings."""

    name: str = Field(default="Taccuino", pattern=_NAME.pattern)
    """What the pages call the service."""
    site: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """This site's name."""
    state_dir: Path = Path("/var/lib/taccuino")
    """All state lies here. The environment's ``TACCUINO_STATE`` wins."""
    host: str = Field(default="localhost", pattern=r"^[A-Za-z0-9.-]+$")
    """The host name in the service's address."""
    port: int = Field(default=8000, ge=1, le=65000)
    """The port the edge listens at, and the address's. The environment's ``TACCUINO_PORT``
    wins."""
    address: str | None = Field(
        default=None, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$"
    )
    """The address that users know, where something stands before the edge: a name for several
    sites, a load balancer. Default: the edge's own, ``http(s)://<host>:<port>``."""
    hub: HubSettings = HubSettings()
    edge: EdgeSettings = EdgeSettings()
    iam: IAMSettings = IAMSettings()
    storage: StorageSettings = StorageSettings()
    mount_plane: MountPlaneSettings = MountPlaneSettings()
    workarea: WorkareaSettings = WorkareaSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    engine: EngineSettings = EngineSettings()
    warm: WarmSettings = WarmSettings()
    admission: AdmissionSettings = AdmissionSettings()
    images: list[ImageSettings] = [
        ImageSettings(
            name="base",
            reference="localhost/taccuino/base:latest",
            title="Base image",
            description="Python with the scientific stack, JupyterLab and Notebook 7",
            default=True,
        )
    ]
    """The offered images; ``taccuino image offer`` adds to them without an edit here."""
    flavours: list[FlavourSettings] = Field(
        default=[FlavourSettings(cpus=[1, 0.5, 2], memory=["2G", "1G", "4G"])], min_length=1
    )
    """The offered CPUs and memory."""
    culling: CullingSettings = CullingSettings()
    sites: SitesSettings = SitesSettings()
    peers: list[PeerSettings] = []
    """The other sites of this service."""
    local: LocalSettings = LocalSettings()

    @property
    def url(self) -> str:
        """The service's public address, without a trailing slash."""
        return self.address or self.edge_url

    @property
    def edge_url(self) -> str:
        """The address of this site's own edge, without a trailing slash."""
        scheme, standard = ("https", 443) if self.edge.certificate else ("http", 80)
        return f"{scheme}://{self.host}" + ("" if self.port == standard else f":{self.port}")

    @property
    def embedded_iam(self) -> bool:
        """Whether ``up`` runs the IAM itself."""
        return self.local.iam_port is not None or self.iam.issuer is None

    @property
    def embedded_storage(self) -> bool:
        """Whether ``up`` runs the object storage itself."""
        return self.local.s3_port is not None or self.storage.endpoint is None

    @model_validator(mode="after")
    def _fill_paths(self) -> Self:
        """Derive what the state directory and the port decide."""
        state = self.state_dir = self.state_dir.absolute()
        self.edge.admin_socket = self.edge.admin_socket or state / "edge/admin.sock"
        self.edge.routes_file = self.edge.routes_file or state / "edge/routes.map"
        self.edge.peers_file = self.edge.peers_file or state / "edge/peers.map"
        self.hub.database_url = (
            self.hub.database_url or f"sqlite:///{state / 'hub/jupyterhub.sqlite'}"
        )
        plane = self.mount_plane
        plane.socket = plane.socket or state / "mount-plane/api.sock"
        plane.directory = plane.directory or state / "mounts"
        plane.cache_directory = plane.cache_directory or state / "mount-plane/cache"
        self.workarea.directory = self.workarea.directory or state / "workareas"
        key = self.snapshots.key_file or state / "secrets/snapshots-key"
        self.snapshots.key_file = key
        docker = Path("/var/run/docker.sock")
        podman = state / "engine/podman.sock"
        engine = self.engine
        engine.socket = engine.socket or (podman if engine.kind == "podman" else docker)
        engine.network_pool = engine.network_pool or _network_pool(self.port)
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [image.name for image in self.images]
        if len(names) != len(set(names)):
            raise ValueError("images: two images have the same name; give each its own")
        if self.images and sum(image.default for image in self.images) != 1:
            raise ValueError("images: exactly one image must have default = true")
        if self.iam.issuer and not self.iam.client_id:
            raise ValueError("iam.client_id: an issuer is named, so its client must be too")
        peers = [self.site, *(peer.name for peer in self.peers)]
        if len(peers) != len(set(peers)):
            raise ValueError("peers: each site has a name of its own, this one (site) too")
        if self.peers and self.sites.secret_file is None:
            raise ValueError("sites.secret_file: peers are named, so a secret of all is needed")
        if self.culling.warn_seconds >= self.culling.idle_seconds:
            raise ValueError("culling.warn_seconds: must be less than culling.idle_seconds")
        return self

    @classmethod
    def parse(cls, data: dict[str, Any], source: str = "settings") -> Settings:
        """Validate a dictionary of settings.

        Raises
        ------
        SettingsError
            If a key is unknown or a value can't be used; it names each one.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise SettingsError(source, [_fault(item) for item in error.errors()]) from None

    @classmethod
    def load(cls, path: Path | None = None) -> Settings:
        """Read the settings.

        The file is ``path``, else the one ``TACCUINO_SETTINGS`` names, else ``taccuino.toml``
        in the working directory, else ``/etc/taccuino/taccuino.toml``, else none: the embedded
        defaults. A resolved file (``.json``) is taken as it is; otherwise the environment's
        ``TACCUINO_STATE``, ``TACCUINO_PORT`` and ``TACCUINO_SITES`` win over the file's.

        Raises
        ------
        SettingsError
            If the file can't be read, is no TOML, or holds a fault.
        """
        path = path or _find()
        data: dict[str, Any] = {}
        if path is not None:
            try:
                text = path.read_text(encoding="utf-8")
                data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
            except OSError as error:
                fault = Fault("file", str(error.strerror), "name a file that can be read")
                raise SettingsError(str(path), [fault]) from None
            except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
                fault = Fault("syntax", str(error), "mend the line that it names")
                raise SettingsError(str(path), [fault]) from None
        if path is None or path.suffix != ".json":
            for key, variable in (("state_dir", "TACCUINO_STATE"), ("port", "TACCUINO_PORT")):
                if value := os.environ.get(variable):
                    data[key] = value
            if (names := os.environ.get("TACCUINO_SITES")) is not None:
                sites = [name.strip() for name in names.split(",") if name.strip()]
                local = data.get("local", {})
                if isinstance(local, dict):  # if not, that is told with the other faults
                    data["local"] = {**local, "sites": sites}
        return cls.parse(data, str(path or "the embedded defaults"))

    def save(self, path: Path) -> None:
        """Write the settings as JSON, mode 0600, in one step."""
        write_private(path, self.model_dump_json(indent=2) + "\n")


def _network_pool(port: int) -> str:
    """One of 127 networks by the port; never 10.88.0.0/16, which is podman's own default."""
    second = 64 + port % 127
    return f"10.{second + (second >= 88)}.0.0/16"


def _find() -> Path | None:
    if named := os.environ.get("TACCUINO_SETTINGS"):
        return Path(named)
    for path in (Path("taccuino.toml"), Path("/etc/taccuino/taccuino.toml")):
        if path.is_file():
            return path
    return None


_MENDS = {
    "extra_forbidden": "remove it, or see the settings' reference for the right name",
    "int_parsing": "write a whole number",
    "float_parsing": "write a number",
    "bool_parsing": "write true or false",
    "literal_error": "write one of the values named",
    "string_pattern_mismatch": "use only the characters that the reference names",
    "list_type": 'write a list, such as ["a", "b"]',
}


def _fault(item: Any) -> Fault:
    """A fault from one of pydantic's errors."""
    key = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    if not key and ": " in message:
        key, message = message.split(": ", 1)
    if item["type"] == "extra_forbidden":
        message = "no such setting"
    elif key and not isinstance(item.get("input"), dict):
        message = f"{message}; it is {str(item.get('input'))[:60]!r}"
    return Fault(key or "settings", message, _MENDS.get(item["type"], ""))
