"""What a request handler owes, and whether it keeps to it. Knows nothing of pytest."""

from ._check import *
from ._report import *

__all__ = ("Finding", "Outcome", "Report", "Verdict", "check")
