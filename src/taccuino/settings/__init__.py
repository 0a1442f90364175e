"""The settings: one TOML file, typed and validated; with no file, the embedded defaults.

Every section is concrete once it was *resolved*: on a single machine ``taccuino up`` fills
what was left open (the embedded IAM's issuer, the object storage's address, the ports) and
writes the result to ``<state_dir>/settings.json``, which the hub and the mount plane read.
An operator who runs the parts elsewhere writes the same keys in ``taccuino.toml``.
"""

from .file import Settings
from .sections import (
    OWN_NAME_TAKEN,
    AdmissionSettings,
    CullingSettings,
    EdgeSettings,
    EngineSettings,
    FlavourSettings,
    GroupBucketSettings,
    HubSettings,
    IAMSettings,
    ImageSettings,
    LocalSettings,
    MountPlaneSettings,
    PeerSettings,
    SitesSettings,
    SnapshotSettings,
    StorageSettings,
    WarmSettings,
    WorkareaSettings,
)
from .sizes import format_size, parse_size

__all__ = [
    "OWN_NAME_TAKEN",
    "AdmissionSettings",
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
    "PeerSettings",
    "Settings",
    "SitesSettings",
    "SnapshotSettings",
    "StorageSettings",
    "WarmSettings",
    "WorkareaSettings",
    "format_size",
    "parse_size",
]
