"""How starts go, for Prometheus: the hub answers with these at ``/hub/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "PHASE_SECONDS",
    "START_FAILURES",
    "START_SECONDS",
    "WARM_CLAIMS",
    "WARM_FAILURES",
    "WARM_SERVERS",
    "WARM_WANTED",
]

_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)

START_SECONDS = Histogram(
    "taccuino_server_start_seconds",
    "Seconds from the request for a server until it was ready, all attempts included, by the "
    "path that it took (warm, cold)",
    ["path"],
    buckets=_BUCKETS,
)
PHASE_SECONDS = Histogram(
    "taccuino_server_start_phase_seconds",
    "Seconds that a phase of a start took, until the next one began",
    ["phase"],
    buckets=_BUCKETS,
)
START_FAILURES = Counter(
    "taccuino_server_start_failures_total",
    "Starts that were given up, by their reason",
    ["reason"],
)
WARM_SERVERS = Gauge(
    "taccuino_warm_servers",
    "Servers that wait for a user, by image and state (ready, booting)",
    ["image", "state"],
)
WARM_WANTED = Gauge(
    "taccuino_warm_servers_wanted", "Servers that should wait for a user, by image", ["image"]
)
WARM_CLAIMS = Counter(
    "taccuino_warm_claims_total",
    "Starts that asked for a warm server, by result (claimed, none, failed)",
    ["result"],
)
WARM_FAILURES = Counter(
    "taccuino_warm_failures_total", "Servers that could not be made to wait for a user"
)
