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
]

_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)

START_SECONDS = Histogram(
    "taccuino_server_start_seconds",
    "Seconds from the request for a server until it was ready, all attempts included",
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
