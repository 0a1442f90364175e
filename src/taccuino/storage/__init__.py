"""Object storage: buckets and roles, credentials for users, and the mounts on this node.

The hub gives each user a bucket and a role (`BucketProvisioner`), trades access tokens for
credentials that end by themselves (`StorageTokenService`, `CredentialCache`), and asks the
mount plane for mounts. Each module is imported when a name of it is first used, since boto3
takes its time and not everyone who opens this door needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clients import StorageClients
    from .credentials import CredentialCache
    from .errors import StorageError
    from .mount_client import MountPlaneClient, MountPlaneError, MountRequest, MountStatus
    from .names import bucket_name, role_arn, role_name, scratch_prefix
    from .provisioner import BucketProvisioner
    from .sts import Credentials, StorageTokenService

__all__ = [
    "BucketProvisioner",
    "CredentialCache",
    "Credentials",
    "MountPlaneClient",
    "MountPlaneError",
    "MountRequest",
    "MountStatus",
    "StorageClients",
    "StorageError",
    "StorageTokenService",
    "bucket_name",
    "role_arn",
    "role_name",
    "scratch_prefix",
]

_MODULES = {
    "BucketProvisioner": "provisioner",
    "CredentialCache": "credentials",
    "Credentials": "sts",
    "MountPlaneClient": "mount_client",
    "MountPlaneError": "mount_client",
    "MountRequest": "mount_client",
    "MountStatus": "mount_client",
    "StorageClients": "clients",
    "StorageError": "errors",
    "StorageTokenService": "sts",
    "bucket_name": "names",
    "role_arn": "names",
    "role_name": "names",
    "scratch_prefix": "names",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
