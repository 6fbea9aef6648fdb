"""Mocks: servers that say exactly what a test wants, and tell exactly what was said to them."""

from ._acts import *
from ._course import *
from ._errors import *
from ._modes import *
from ._occurrences import *
from ._performance import *
from ._record import *
from ._replay import *
from ._script import *
from ._scrub import *
from ._server import *
from ._step import *
from ._values import *

__all__ = (
    "SECRETS",
    "Act",
    "Cue",
    "Ending",
    "Expectable",
    "Extending",
    "Frame",
    "Matching",
    "MockFailed",
    "MockServer",
    "Moment",
    "Occurrence",
    "Performance",
    "Raw",
    "RecordMode",
    "Recording",
    "Request",
    "Sayable",
    "Scenarios",
    "Script",
    "Scrub",
    "Scrubbing",
    "Step",
    "Template",
    "Timing",
    "Trouble",
    "Unexpected",
    "record",
    "recorded",
    "replay",
    "scrub_events",
    "write_recording",
)
