"""Swarms: crowds of slow and rude clients, thousands from one process, and an honest one that tells whether others are still served.

A profile is plain data, and what client number k does is drawn from ``(seed, k)``: the same profile sends the same bytes on
every engine.
"""

from ._builtin import *
from ._crowd import *
from ._ledger import *
from ._local import *
from ._probe import *
from ._profile import *
from ._progress import *
from ._result import *
from ._sending import *

__all__ = (
    "BINS",
    "PROFILES",
    "STATES",
    "TIMES",
    "Crowd",
    "EngineName",
    "IpFamily",
    "Ledger",
    "LocalRunner",
    "Moment",
    "Part",
    "Probe",
    "Probed",
    "Prober",
    "Profile",
    "Profiled",
    "Progress",
    "Result",
    "SwarmFailed",
    "package_root",
    "profile",
    "require_writable",
    "result_of",
    "swarm",
)
