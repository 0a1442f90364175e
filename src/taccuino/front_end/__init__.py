"""The front end's static files: taken out of each offered image once, served by the edge.

JupyterLab loads some hundred files at its start. They are the same for everyone who uses an
image, so they need not come from each user's own server: ``export`` takes them out of the
image (``taccuino.server.front_end`` hands them out there) and compresses them, ``catalogue``
says which image's files lie where, ``boot_files`` which of them a start needs, and ``nginx``
serves them behind the edge at addresses that name their content.
"""

from __future__ import annotations

from .catalogue import URL_PREFIX, FrontEnd, front_end_of, front_end_of_reference

__all__ = ["URL_PREFIX", "FrontEnd", "front_end_of", "front_end_of_reference"]
