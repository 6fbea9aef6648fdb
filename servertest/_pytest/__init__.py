"""What the pytest plugin does when it is used. The plugin itself only registers names and imports these modules late."""

from ._guard import *
from ._report import *
from ._serve import *

__all__ = (
    "Guard",
    "Serve",
    "is_excused",
    "keep_serving",
    "print_hang",
    "sections",
    "start_alarm",
    "start_timer",
)
