"""Errors, deadlines, addresses, short socket paths and binding: what every other package stands on."""

from ._addresses import *
from ._binding import *
from ._bytes import *
from ._deadline import *
from ._errors import *
from ._keywords import *
from ._lines import *
from ._paths import *

__all__ = (
    "DEFAULT_TIMEOUT",
    "STOP_TIMEOUT",
    "Address",
    "AddressError",
    "AddressInUse",
    "Addressed",
    "Deadline",
    "DeadlineExceeded",
    "Family",
    "HandlerFailed",
    "LeakFound",
    "Mismatch",
    "PeerClosed",
    "PeerRefused",
    "PeerReset",
    "RemoteError",
    "ServertestError",
    "SocketDirectory",
    "StillRunning",
    "Transport",
    "UnknownKeyword",
    "UsageError",
    "bound_socket",
    "byte_diff",
    "check_pair",
    "check_path",
    "count_bytes",
    "family_of",
    "first_difference",
    "format_address",
    "hard_reset",
    "have_ipv6",
    "parse_address",
    "path_limit",
    "preview",
    "reachable",
    "refuse_unknown_keywords",
    "refused_address",
    "shorten_lines",
    "suggests_keywords",
    "what_came",
)
