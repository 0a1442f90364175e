"""The configuration of the idle culler that the hub runs."""

from taccuino.hub.culling import may_be_culled

get_config().IdleCuller.cull_arbiter_hook = may_be_culled  # type: ignore[name-defined]  # noqa: F821
