"""``python -m taccuino.hub -f jupyterhub_config.py``: the hub, with JupyterHub's options."""

from __future__ import annotations

from .application import HubApplication

if __name__ == "__main__":
    HubApplication.launch_instance()
