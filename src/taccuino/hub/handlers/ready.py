"""``GET /hub/ready``: the readiness, for load balancers, peers, alerts and ``taccuino up``."""

from __future__ import annotations

from jupyterhub.handlers.base import BaseHandler

from taccuino.hub.readiness import Readiness

__all__ = ["ReadyHandler"]


class ReadyHandler(BaseHandler):
    """Answers without a login; 503 when servers can't be started."""

    def initialize(self, readiness: Readiness) -> None:
        """Take the readiness, which all requests share."""
        super().initialize()
        self.readiness = readiness

    async def prepare(self) -> None:
        """Look for no user: a probe has none, and the database may be what is away."""

    def get_content_type(self) -> str:
        """JSON."""
        return "application/json"

    async def get(self) -> None:
        """Answer ``{"ready": ..., "checks": {name: {"state", "latency_ms", "message"}}}``."""
        report = await self.readiness.report()
        self.set_status(200 if report.ready else 503)
        self.set_header("Cache-Control", "no-store")
        self.finish(report.as_json())

    async def head(self) -> None:
        """Answer as ``get`` does, with no body."""
        report = await self.readiness.report()
        self.set_status(200 if report.ready else 503)
        self.finish()
