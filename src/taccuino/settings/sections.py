"""The sections of the settings, one class each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from .networks import BindAddress, IPv4Pool, Network
from .sizes import Size

_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"


class Section(BaseModel):
    """What all sections have in common: an unknown key is a fault, and keys have help texts."""

    model_config = ConfigDict(
        extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class EdgeSettings(Section):
    """The edge: the HAProxy in front, and the routes it holds."""

    bind: BindAddress = "*"
    """Address the edge listens on; ``*`` is every interface."""
    certificate: Path | None = None
    """PEM file with the certificate chain and its key; with one, the edge speaks TLS."""
    server_port: int | None = Field(default=None, ge=1, le=65535)
    """With a certificate: where notebook servers, and nobody else, reach the hub's API without
    TLS, so that a certificate need not be known in the images. Default: picked by ``up``."""
    proxy_port: int | None = Field(default=None, ge=1, le=65535)
    """Where a load balancer before the edge connects with the PROXY protocol, which tells who
    the client is; with a certificate it speaks TLS too. Default: there is none."""
    proxy_networks: list[Network] = ["127.0.0.0/8", "::1"]
    """Where load balancers may connect from with the PROXY protocol."""
    admin_socket: Path | None = None
    """HAProxy's runtime API (a unix socket). Default: ``<state_dir>/edge/admin.sock``."""
    routes_file: Path | None = None
    """The map with the routes. Default: ``<state_dir>/edge/routes.map``."""
    peers_file: Path | None = None
    """The map with the routes of the peers. Default: ``<state_dir>/edge/peers.map``."""
    max_connections: int = Field(default=4000, ge=64)
    """Connections the edge holds at once."""
    login_rate: int = Field(default=3000, ge=0)
    """Passwords that may be tried in a minute from one address (many users may share one);
    0 is no limit."""


class HubSettings(Section):
    """The hub: the JupyterHub process."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the hub's own listener on the loopback interface. Default: picked by ``up``."""
    database_url: str | None = None
    """SQLAlchemy URL. Default: an SQLite file in ``<state_dir>/hub``."""
    server_api_url: str | None = None
    """The hub's API as notebook servers reach it. Default: through the edge, at the gateway
    of each server's network."""
    token_cache_seconds: int = Field(default=300, ge=1)
    """For how long a notebook server takes the hub's word about a login before it asks again.
    While the hub is away it goes on with what the hub said last, for a day at most."""
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


class IAMSettings(Section):
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


class GroupBucketSettings(Section):
    """A bucket that the members of one of the IAM's groups share."""

    group: Annotated[str, AfterValidator(_group_name)]
    """The group, as the IAM names it; a leading slash is ignored."""
    bucket: str = Field(pattern=_BUCKET)
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


class StorageSettings(Section):
    """The object storage (S3 with STS)."""

    endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s?#]+$")
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
    scratch_bucket: str = Field(default="scratch", pattern=_BUCKET)
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


class MountPlaneSettings(Section):
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


class WorkareaSettings(Section):
    """The user's persistent area on the node, ``/workarea``."""

    directory: Path | None = None
    """Where the areas are kept. Default: ``<state_dir>/workareas``."""
    quota: Size | None = "10G"
    """Size of each user's area; only what is used takes room on the disk."""


class SnapshotSettings(Section):
    """Snapshots of users' workareas, kept in their own buckets; every site restores them."""

    enabled: bool = True
    """Whether there are any."""
    key_file: Path | None = None
    """File (mode 0600) with the secret that users' keys are derived from: the same at all
    sites. Default: ``<state_dir>/secrets/snapshots-key``, made by ``up``."""
    every_minutes: float = Field(default=30, ge=0)
    """How often a server that runs is looked at; nothing is made where nothing changed. 0:
    only when it stops, and on request."""
    stop_seconds: float = Field(default=20, ge=0)
    """The longest that a stop waits for its snapshot, which then goes on in the background."""
    look_seconds: float = Field(default=3, gt=0)
    """The longest that a start waits for the object storage to tell of a newer snapshot."""
    restore_seconds: float = Field(default=600, gt=0)
    """The longest that a start waits for one to be restored."""
    keep_last: int = Field(default=5, ge=1)
    """How many of the newest snapshots are kept, whatever their age."""
    keep_hourly: int = Field(default=12, ge=0)
    """Of how many hours the last one is kept; hours without a snapshot do not count."""
    keep_daily: int = Field(default=14, ge=0)
    """Of how many days."""
    keep_weekly: int = Field(default=8, ge=0)
    """Of how many weeks."""
    keep_monthly: int = Field(default=6, ge=0)
    """Of how many months."""
    thin_hours: float = Field(default=24, ge=0)
    """How often the others are removed."""
    exclude: list[str] = []
    """What is left out besides ``cloud_storage`` and ``examples``, as restic's patterns, such
    as ``.cache``. It is not there at another site, nor any more at its own, where the workarea
    was replaced by a newer one: leave out only what can be had anew."""

    def has_own_key(self, state_dir: Path) -> bool:
        """Whether the service has a secret of its own, which is made if it is not there."""
        return self.key_file == state_dir / "secrets/snapshots-key"


class EngineSettings(Section):
    """The engine that runs the containers."""

    kind: Literal["podman", "docker"] = "podman"
    """``podman`` is embedded and started by ``up``; ``docker`` uses a daemon that runs."""
    socket: Path | None = None
    """The engine's API. Default: ``<state_dir>/engine/podman.sock``, or Docker's own."""
    network_pool: IPv4Pool | None = None
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
    spare_kernel: bool = True
    """Whether a notebook server with memory to spare (a limit of 1G or more) starts a Python
    kernel ahead, some 36 MB each, so that a notebook's first cell does not wait for one."""


class WarmSettings(Section):
    """Warm servers: started without a user, so that a start need only claim one."""

    servers: int = Field(default=2, ge=0, le=1000)
    """How many of the default image wait at least; 0 keeps none of any image."""
    others: int = Field(default=1, ge=0, le=1000)
    """How many of each other image wait at least. More of an image wait for an hour after as
    many were started within a minute."""
    memory: Size | None = None
    """The most memory that they may take together; one takes about 60 MB. Default: a sixth of
    the node's."""


class ImageSettings(Section):
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


class FlavourSettings(Section):
    """CPUs and memory that may be chosen together."""

    cpus: list[Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)]] = Field(
        min_length=1
    )
    """The CPUs offered; the first one is the default."""
    memory: list[Size] = Field(min_length=1)
    """The memory offered; the first one is the default."""
    groups: list[str] = []
    """Whose members may use it; with none, everyone may."""


class CullingSettings(Section):
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


class AdmissionSettings(Section):
    """What the node must have free for a start to begin; one that can't fit is refused."""

    memory_reserve: Size = "512M"
    """Memory that starts leave free, for the rest of the node and for servers that grow."""
    start_memory: Size = "150M"
    """What a server takes to begin with, its storage's mounts included: it must be free beside
    what the starts that are under way will take."""
    start_processes: int = Field(default=60, ge=1)
    """Processes and threads that must be free for a server in the same way."""
    memory_overcommit: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    """How many times the node's memory the limits of all servers may add up to: most servers
    are far below theirs most of the time. 0 is no bound."""
    servers: int | None = Field(default=None, ge=1)
    """The most servers on this node. Default: as many as ``engine.network_pool`` has networks
    of 16 addresses."""
    disk_reserve: Size = "512M"
    """What must be free on the disk of the state directory."""


class LocalSettings(Section):
    """The single machine: ports of what ``up`` supervises, picked at its first run."""

    storage_pages_port: int | None = Field(default=None, ge=1, le=65535)
    """The storage pages, on the loopback interface."""
    front_end_port: int | None = Field(default=None, ge=1, le=65535)
    """What serves JupyterLab's static files behind the edge, on the loopback interface."""

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
    sites: list[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]] = Field(
        default=[], max_length=4
    )
    """Names of sites that ``up`` runs side by side on this machine, with one IAM, one object
    storage and one address, as data centres would. The environment's ``TACCUINO_SITES`` (names
    with commas between) wins. Default: this machine is one site."""
    namespaces: bool = False
    """Whether each of these sites has a network namespace, an address and a link of its own."""

    @field_validator("sites")
    @classmethod
    def _are_several(cls, sites: list[str]) -> list[str]:
        if len(sites) == 1 or len(sites) != len(set(sites)):
            raise ValueError("name two to four sites, each once, or none")
        return sites


class PeerSettings(Section):
    """Another site of this service."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    """Its ``site``."""
    url: str = Field(pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$")
    """Its edge, as this site reaches it; with https, its certificate must be valid."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Its share of the users who have no server yet, beside the other sites'."""


class SitesSettings(Section):
    """How this site and its peers share the users."""

    weight: float = Field(default=1.0, gt=0, le=1000)
    """This site's own share of the users."""
    secret_file: Path | None = None
    """File (mode 0600) with the secret that the sites know each other by, the same at all."""
    check_seconds: float = Field(default=1.0, ge=0.2, le=60)
    """How often each site's health is looked at."""
    fall: int = Field(default=3, ge=1, le=60)
    """How many checks in a row must fail until a site's users are served elsewhere."""
    rise: int = Field(default=2, ge=1, le=60)
    """How many checks in a row must succeed until it is used again."""
    move_automatically: bool = False
    """Whether a user whose site was lost gets a new server at once, without a click."""
    stale_seconds: float = Field(default=60.0, ge=1)
    """How long an idle server is kept once its user has a newer one at another site."""
