"""TLS for tests: an authority over trustme, and profiles of what may go wrong.

Importing this imports neither `ssl` nor trustme: they come with the first context.
"""

from ._authority import *
from ._credentials import *
from ._errors import *
from ._files import *
from ._names import *
from ._profile import *
from ._profiles import *
from ._symptoms import *

__all__ = (
    "HANDSHAKE_TIMEOUT",
    "Authority",
    "CertificateFiles",
    "ClientCredential",
    "HandshakeEnded",
    "Names",
    "OpenSSLSymptom",
    "Profile",
    "ServerCredential",
    "Symptom",
    "Symptoms",
    "hostname_for",
    "names_for",
    "profile_for",
    "profiles",
    "shared_authority",
)
