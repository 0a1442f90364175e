"""``python -m taccuino.hub -f jupyterhub_config.py``: the hub, with JupyterHub's options."""

from __future__ import annotations

import gc

# Nothing that is imported becomes garbage, and looking for some costs a quarter of the time:
# `HubApplication.start` takes that up.
gc.disable()

from taccuino.hub.application import HubApplication  # noqa: E402 - see above

if __name__ == "__main__":
    HubApplication.launch_instance()
