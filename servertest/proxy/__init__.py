"""A proxy between real clients and real servers, on which faults are at work."""

from ._link import *
from ._proxy import *
from ._record import *

__all__ = ("Link", "LinkConnection", "Proxy", "State", "link")
