"""How starts go, for Prometheus: the hub answers with these at ``/hub/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

__all__ = ["PHASE_SECONDS", "START_FAILURES", "START_SECONDS"]

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
