"""Which services an instance consists of, given its settings."""

from __future__ import annotations

from taccuino.settings import Settings

from .service import Service

__all__ = ["service_names", "services_of"]


def service_names(settings: Settings) -> list[str]:
    """The names of the instance's services, in the order in which they are started."""
    names = []
    if settings.embedded_storage:
        names += ["ceph-mon", "ceph-osd", "radosgw"]
    if settings.embedded_iam:
        names.append("iam")
    names.append("edge")
    if settings.local.sites:  # they have the rest, each for itself
        return names
    if settings.engine.kind == "podman":
        names.append("engine")
    return [*names, "mount-plane", "storage-pages", "front-end", "hub"]


def services_of(settings: Settings) -> list[Service]:
    """The services of resolved settings, in the order in which they are started."""
    from .ceph import ceph_services
    from .iam import iam_service
    from .programs import (
        edge_service,
        engine_service,
        front_end_service,
        hub_service,
        mount_plane_service,
        storage_pages_service,
    )

    services: list[Service] = []
    if settings.embedded_storage:
        services += ceph_services(settings)
    if settings.embedded_iam:
        services.append(iam_service(settings))
    services.append(edge_service(settings))
    if settings.local.sites:
        return services
    if settings.engine.kind == "podman":
        services.append(engine_service(settings))
    services += [
        mount_plane_service(settings),
        storage_pages_service(settings),
        front_end_service(settings),
        hub_service(settings),
    ]
    return services
