"""Warm servers: started and imported, without a user, until a start claims one.

``pool`` keeps so many of each image as are wanted (``demand``), ``server`` makes one and lets
go of it, ``link`` is the line on which it learns whose it is.
"""

from .claim import Claim
from .demand import Demand
from .pool import WarmPool
from .server import WarmServer

__all__ = ["Claim", "Demand", "WarmPool", "WarmServer"]
