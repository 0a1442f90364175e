"""How starts go, for Prometheus: the hub answers with these at ``/hub/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "ADMISSION_REFUSALS",
    "NODE_FREE",
    "PHASE_SECONDS",
    "QUEUE_LENGTH",
    "QUEUE_SECONDS",
    "QUEUE_WIDTH",
    "STARTS_UNDER_WAY",
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
QUEUE_SECONDS = Histogram(
    "taccuino_start_queue_seconds",
    "Seconds that a start waited for its turn",
    ["lane"],
    buckets=_BUCKETS,
)
QUEUE_LENGTH = Gauge("taccuino_start_queue_length", "Starts that wait for their turn", ["lane"])
STARTS_UNDER_WAY = Gauge(
    "taccuino_starts_under_way", "Starts that have their turn and are not done", ["lane"]
)
QUEUE_WIDTH = Gauge(
    "taccuino_start_queue_width", "Starts that may be under way at once, as measured", ["lane"]
)
ADMISSION_REFUSALS = Counter(
    "taccuino_admission_refusals_total",
    "Starts refused because the node has no room, by what is short",
    ["cause"],
)
NODE_FREE = Gauge(
    "taccuino_node_free",
    "What the node has left for notebook servers, less the reserves and what was promised: "
    "bytes of memory, bytes of limits, bytes of disk, servers, processes",
    ["resource"],
)
