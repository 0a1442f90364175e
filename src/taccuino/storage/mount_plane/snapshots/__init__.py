"""Snapshots of workareas: restic in a sandbox, into the user's own bucket.

`lineage` says, purely, what a node's workarea descends from and what a start must do about
the newest snapshot; `sandbox` and `restic` run the program; `pointer` reads and writes the one
small object that names the newest; `area` is where files are read and laid; `user` puts these
together for one user, and `service` for all of the node.
"""

from .service import Snapshots

__all__ = ["Snapshots"]
