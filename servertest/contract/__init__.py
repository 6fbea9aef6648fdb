"""What a request handler owes, and whether it keeps to it. Knows nothing of pytest."""

from ._case import *
from ._check import *
from ._conversation import *
from ._ground import *
from ._plan import *
from ._promises import *
from ._registry import *
from ._rehearsal import *
from ._report import *
from ._subject import *
from ._violation import *

__all__ = (
    "IN_A_PROCESS",
    "NEEDS_MEMORY",
    "Bench",
    "Case",
    "CheckFamily",
    "CheckInfo",
    "CheckVerdict",
    "Conversation",
    "DatagramPlan",
    "Delivery",
    "Ended",
    "Ending",
    "Failed",
    "Family",
    "Finding",
    "Ground",
    "NotApplicable",
    "NotPromised",
    "NotSimulated",
    "Outcome",
    "Piece",
    "Plan",
    "Profile",
    "Promises",
    "Record",
    "Report",
    "Result",
    "Row",
    "Stage",
    "Technique",
    "Verdict",
    "Violation",
    "Wait",
    "all_checks",
    "check",
    "checks_for",
    "contract_check",
    "conversations_of",
    "describe_record",
    "rehearse",
    "select_checks",
)
