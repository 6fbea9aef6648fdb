"""Mocks: servers that say exactly what a test wants, and tell exactly what was said to them."""

from ._acts import *
from ._errors import *
from ._performance import *
from ._script import *
from ._server import *
from ._step import *
from ._values import *

__all__ = (
    "Act",
    "Cue",
    "Ending",
    "Expectable",
    "Frame",
    "MockFailed",
    "MockServer",
    "Moment",
    "Occurrence",
    "Performance",
    "Raw",
    "Request",
    "Sayable",
    "Scenarios",
    "Script",
    "Step",
    "Template",
    "Trouble",
    "Unexpected",
)
