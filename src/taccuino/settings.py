"""The settings: one TOML file, typed and validated; with no file, the embedded defaults.

Every section is concrete once it was *resolved*: on a single machine ``taccuino up`` fills
what was left open (the embedded IAM's issuer, the object storage's address, the ports) and
writes the result to ``<state_dir>/settings.json``, which the hub and the mount plane read.
An operator who runs the parts elsewhere writes the same keys in ``taccuino.toml``.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from .errors import Fault, SettingsError
from .private_files import write_private

__all__ = [
    "CullingSettings",
    "EdgeSettings",
    "EngineSettings",
    "FlavourSettings",
    "GroupBucketSettings",
    "HubSettings",
    "IAMSettings",
    "ImageSettings",
    "LocalSettings",
    "MountPlaneSettings",
    "Settings",
    "StorageSettings",
    "WorkareaSettings",
    "format_size",
    "parse_size",
]

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_size(text: str | float) -> int:
    """Bytes of a size such as ``"2G"``, ``"512M"`` or ``1073741824`` (powers of 1024).

    Raises
    ------
    ValueError
        If the text is no size, or not greater than zero.
    """
    match = _SIZE.match(str(text))
    if not match:
        raise ValueError(f"{str(text)[:40]!r} is not a size; write it such as 512M, 2G or 1.5G")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size <= 0:
        raise ValueError(f"{str(text)[:40]!r} is not a size greater than zero")
    return size


def format_size(size: int) -> str:
    """The shortest exact text of a size in bytes: ``2147483648`` is ``"2G"``."""
    for unit in ("T", "G", "M", "K"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _canonical_size(text: str) -> str:
    return format_size(parse_size(text))


Size = Annotated[str, AfterValidator(_canonical_size)]
"""A size in bytes, written such as ``"2G"`` (powers of 1024) and kept in its shortest form."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class EdgeSettings(_Section):
    """The edge: the HAProxy in front, and the routes it holds."""

    bind: str = "*"
    """Address the edge listens on; ``*`` is every interface."""
    certificate: Path | None = None
    """PEM file with the certificate chain and its key; with one, the edge speaks TLS."""
    server_port: int | None = Field(default=None, ge=1, le=65535)
    """With a certificate: where notebook servers, and nobody else, reach the hub's API without
    TLS, so that a certificate need not be known in the images. Default: picked by ``up``."""
    admin_socket: Path | None = None
    """HAProxy's runtime API (a unix socket). Default: ``<state_dir>/edge/admin.sock``."""
    routes_file: Path | None = None
    """The map with the routes. Default: ``<state_dir>/edge/routes.map``."""
    max_connections: int = Field(default=4000, ge=64)
    """Connections the edge holds at once."""
    login_rate: int = Field(default=600, ge=0)
    """Passwords that may be tried in a minute from one address (many users may share one);
    0 is no limit."""


class HubSettings(_Section):
    """The hub: the JupyterHub process."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the hub's own listener on the loopback interface. Default: picked by ``up``."""
    database_url: str | None = None
    """SQLAlchemy URL. Default: an SQLite file in ``<state_dir>/hub``."""
    server_api_url: str | None = None
    """The hub's API as notebook servers reach it. Default: through the edge, at the gateway
    of each server's network."""
    metrics_public: bool = True
    """Whether ``/hub/metrics`` answers without a token."""
    admin_users: list[str] = []
    """Users who are administrators whatever their groups say."""
    announcement: str = ""
    """A line shown on every page of the hub."""
    templates: list[Path] = []
    """Folders with Jinja templates that take precedence over Taccuino's own."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """How much the hub logs."""


class IAMSettings(_Section):
    """The identity and access management that users log in with (OpenID Connect)."""

    issuer: str | None = None
    """The issuer's URL, with or without a trailing slash. Default: the embedded IAM."""
    client_id: str | None = None
    """The client registered for this service."""
    client_secret_file: Path | None = None
    """File with the client's secret (mode 0600)."""
    scopes: list[str] = ["openid", "profile", "email", "groups"]
    """Scopes asked for at login; INDIGO IAM wants ``offline_access`` too."""
    username_claim: str = "preferred_username"
    """Claim with the user's name."""
    groups_claim: str = "groups"
    """Claim with the list of the user's groups, such as ``groups`` or ``wlcg.groups``."""
    allowed_groups: list[str] = []
    """Who may use the service; with none, every registered user may. A leading slash is
    ignored here and in the token."""
    admin_groups: list[str] = []
    """Whose members are administrators of the hub."""
    display_name: str = "your institute"
    """What the login page calls the IAM."""
    registration_url: str | None = None
    """Where a person without an account registers; linked from the login page."""
    logout_url: str | None = None
    """Where the IAM's own session ends. Default: the discovery document's
    ``end_session_endpoint``."""
    refresh_seconds: int = Field(default=300, ge=10)
    """How often the hub asks the IAM whether a user who is active is still welcome."""
    renew_seconds: int = Field(default=3600, ge=10)
    """Age of an access token at which a new one is asked for although it is still valid: an
    IAM that goes on answering for a suspended user refuses them then at the latest."""
    contact: str = "the administrators of this service"
    """Whom a person asks who is not let in; part of a sentence, such as an address."""
    oidc_agent_profile: str = Field(default="infncloud", pattern=r"^[A-Za-z0-9_.-]+$")
    """Name of the oidc-agent profile that is ready in every notebook server."""


OWN_NAME_TAKEN = "--group"
"""The end of a group's directory for a user whose own directory has that name."""
_DIRECTORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,56}")
_SPECIAL = re.compile(r"[^A-Za-z0-9._@+-]+")


def _group_name(name: str) -> str:
    if not (plain := name.strip().strip("/").strip()):
        raise ValueError(f"{name!r} names no group")
    return plain


class GroupBucketSettings(_Section):
    """A bucket that the members of one of the IAM's groups share."""

    group: Annotated[str, AfterValidator(_group_name)]
    """The group, as the IAM names it; a leading slash is ignored."""
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    """The bucket; it is made if it is not there."""
    directory: str = ""
    """Its name in ``cloud_storage``. Default: the group's, with hyphens for slashes."""
    read_only: bool = False
    """Whether members only read it."""
    quota: Size | None = None
    """The most it may hold. Default: no limit."""

    @property
    def mounted_as(self) -> str:
        """Its name in ``cloud_storage``."""
        return self.directory or _SPECIAL.sub("-", self.group)

    @model_validator(mode="after")
    def _names_a_directory(self) -> Self:
        """What is made from a group's name must be one too; `storage.groups` adds the end."""
        name = self.mounted_as
        if not _DIRECTORY.fullmatch(name) or name.endswith(OWN_NAME_TAKEN):
            raise ValueError(
                f"group {self.group!r} can't be mounted as {name!r}; give it a directory"
            )
        return self


class StorageSettings(_Section):
    """The object storage (S3 with STS)."""

    endpoint: str | None = None
    """The S3 and STS endpoint's URL. Default: the embedded Ceph RadosGW."""
    server_endpoint: str | None = None
    """The same endpoint as notebook servers reach it. Default: ``endpoint``, with a loopback
    host replaced by the gateway of the server's network."""
    region: str = "default"
    """The region that requests are signed for."""
    role_arn: str = "arn:aws:iam:::role/taccuino-{username}"
    """The role a user assumes with their access token; ``{username}`` is replaced."""
    audience: str | None = None
    """Audience asked for in access tokens for the storage. Default: none is asked for."""
    bucket: str = "{username}"
    """Name of a user's bucket; ``{username}`` is replaced."""
    scratch_bucket: str = Field(default="scratch", min_length=3)
    """The bucket shared by all users."""
    session_seconds: int = Field(default=3600, ge=900, le=43200)
    """Life of the storage credentials handed out; they are renewed before they end."""
    admin_credentials_file: Path | None = None
    """JSON file (mode 0600) with ``access_key`` and ``secret_key`` of an account that makes
    users' buckets and roles. Without one, roles must exist and users make their own bucket."""
    quota: Size | None = "200G"
    """The most a user's own bucket may hold, earlier versions of files included."""
    group_buckets: list[GroupBucketSettings] = []
    """Buckets that groups share."""
    keep_versions_days: int = Field(default=30, ge=0, le=3650)
    """How long what was overwritten or deleted can be had back (the buckets' versioning, which
    also keeps what another server overwrote); 0 turns it off."""
    share_days: int = Field(default=30, ge=0, le=3650)
    """The longest life of a link that shares a file; 0 turns such links off."""

    @model_validator(mode="after")
    def _keeps_groups_apart(self) -> Self:
        """A directory shows one bucket, and a bucket has one quota."""
        directories = {"scratch": self.scratch_bucket}
        quotas: dict[str, str | None] = {}
        for entry in self.group_buckets:
            name, bucket = entry.mounted_as, entry.bucket
            if bucket == self.scratch_bucket:
                raise ValueError(f"group_buckets: {bucket!r} is the bucket shared by all users")
            if directories.setdefault(name, bucket) != bucket:
                raise ValueError(
                    f"group_buckets: {bucket!r} would be mounted as {name!r}, as "
                    f"{directories[name]!r} is; give one of them another directory"
                )
            if quotas.setdefault(bucket, entry.quota) != entry.quota:
                raise ValueError(f"group_buckets: {bucket!r} is given two different quotas")
        return self


class MountPlaneSettings(_Section):
    """The mount plane: what mounts object storage on this node."""

    socket: Path | None = None
    """Its API (a unix socket). Default: ``<state_dir>/mount-plane/api.sock``."""
    directory: Path | None = None
    """Where users' directories are mounted. Default: ``<state_dir>/mounts``."""
    cache_directory: Path | None = None
    """The write-back caches. Default: ``<state_dir>/mount-plane/cache``."""
    cache_size: Size = "5G"
    """Size of one user's cache; what waits for its upload is never dropped."""
    cache_total_size: Size = "50G"
    """Size of all users' caches together; what waits for its upload is never dropped."""
    process_memory: Size = "1G"
    """The most memory that the process behind one user's mounts may take (cgroups)."""
    process_threads: int = Field(default=512, ge=64)
    """The most threads that it may have."""
    write_back_seconds: float = Field(default=2.0, ge=0)
    """How long after a file was closed its upload begins."""
    directory_cache_seconds: float = Field(default=5.0, ge=0)
    """How soon what other clients change shows; a directory in use is asked for as often."""
    ready_timeout: float = Field(default=20.0, gt=0)
    """Seconds until a mount that is not usable counts as failed."""
    drain_timeout: float = Field(default=60.0, gt=0)
    """Seconds a stop waits for uploads; after that they go on in the background."""


class WorkareaSettings(_Section):
    """The user's persistent area on the node, ``/workarea``."""

    directory: Path | None = None
    """Where the areas are kept. Default: ``<state_dir>/workareas``."""
    quota: Size | None = "10G"
    """Size of each user's area; only what is used takes room on the disk."""


class EngineSettings(_Section):
    """The engine that runs the containers."""

    kind: Literal["podman", "docker"] = "podman"
    """``podman`` is embedded and started by ``up``; ``docker`` uses a daemon that runs."""
    socket: Path | None = None
    """The engine's API. Default: ``<state_dir>/engine/podman.sock``, or Docker's own."""
    network_pool: str | None = None
    """The network that each notebook server's own is cut from, such as ``10.90.0.0/16``.
    Default: one that differs by ``port``."""
    uid_base: int = Field(default=3_000_000, ge=100_000)
    """First host uid of the users' ranges (podman): each user's containers run in a range of
    65,536 of their own."""
    pids_limit: int = Field(default=4096, ge=64)
    """Processes and threads a notebook server may have."""
    start_timeout: float = Field(default=120.0, gt=0)
    """Seconds until a start that makes no progress counts as failed."""
    start_attempts: int = Field(default=2, ge=1, le=5)
    """How often a start is tried when trying again can help."""
    firewall: bool = True
    """Whether containers are kept from the host's ports other than the edge's (nftables)."""


class ImageSettings(_Section):
    """An offered image."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """What users and the API call it."""
    reference: str
    """The image in the engine, such as ``localhost/taccuino/base:latest``."""
    title: str = ""
    """A short title for the form. Default: the name."""
    description: str = ""
    """What is in it, in a sentence."""
    default: bool = False
    """Whether it is chosen when the user does not choose; one image is."""
    groups: list[str] = []
    """Whose members may use it; with none, everyone may."""


class FlavourSettings(_Section):
    """CPUs and memory that may be chosen together."""

    cpus: list[Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)]] = Field(
        min_length=1
    )
    """The CPUs offered; the first one is the default."""
    memory: list[Size] = Field(min_length=1)
    """The memory offered; the first one is the default."""
    groups: list[str] = []
    """Whose members may use it; with none, everyone may."""


class CullingSettings(_Section):
    """When a server that nobody uses is stopped."""

    enabled: bool = True
    """Whether idle servers are stopped at all."""
    idle_seconds: int = Field(default=4 * 3600, ge=10)
    """A server without activity for this long is stopped."""
    warn_seconds: int = Field(default=300, ge=0)
    """How long before that JupyterLab warns."""
    cull_busy: bool = False
    """Whether a server with a running kernel may be stopped as well."""
    max_age_seconds: int = Field(default=0, ge=0)
    """A server this old is stopped even when it is in use; 0 is never."""
    every_seconds: int = Field(default=60, ge=1)
    """How often servers are looked at."""


class LocalSettings(_Section):
    """The single machine: ports of what ``up`` supervises, picked at its first run."""

    storage_pages_port: int | None = Field(default=None, ge=1, le=65535)
    """The storage pages, on the loopback interface."""

    iam_port: int | None = Field(default=None, ge=1, le=65535)
    """The embedded IAM at the edge."""
    iam_backend_port: int | None = Field(default=None, ge=1, le=65535)
    """The embedded IAM itself, on the loopback interface."""
    iam_token_seconds: int = Field(default=3600, ge=10)
    """Life of the embedded IAM's access tokens."""
    s3_port: int | None = Field(default=None, ge=1, le=65535)
    """The embedded object storage at the edge."""
    s3_backend_port: int | None = Field(default=None, ge=1, le=65535)
    """The embedded object storage itself, on the loopback interface."""
    ceph_mon_port: int | None = Field(default=None, ge=1, le=65535)
    """Ceph's monitor, on the loopback interface."""
    storage_size: Size = "20G"
    """Size of the embedded object storage; a sparse file."""


_NAME = re.compile(r"^[A-Za-z0-9 ._-]{1,40}$")


class Settings(_Section):
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
    """The address's port. The environment's ``TACCUINO_PORT`` wins."""
    hub: HubSettings = HubSettings()
    edge: EdgeSettings = EdgeSettings()
    iam: IAMSettings = IAMSettings()
    storage: StorageSettings = StorageSettings()
    mount_plane: MountPlaneSettings = MountPlaneSettings()
    workarea: WorkareaSettings = WorkareaSettings()
    engine: EngineSettings = EngineSettings()
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
    local: LocalSettings = LocalSettings()

    @property
    def url(self) -> str:
        """The service's public address, without a trailing slash."""
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
        self.hub.database_url = (
            self.hub.database_url or f"sqlite:///{state / 'hub/jupyterhub.sqlite'}"
        )
        plane = self.mount_plane
        plane.socket = plane.socket or state / "mount-plane/api.sock"
        plane.directory = plane.directory or state / "mounts"
        plane.cache_directory = plane.cache_directory or state / "mount-plane/cache"
        self.workarea.directory = self.workarea.directory or state / "workareas"
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
        ``TACCUINO_STATE`` and ``TACCUINO_PORT`` win over the file's.

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
