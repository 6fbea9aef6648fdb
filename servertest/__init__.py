"""Test socket servers, and the clients that talk to them.

What tests use most is reached from here and loaded when it is first asked for: `launch`, `Kind`, `kinds`, and the clients. The framework itself is
`servertest.servers`. The pytest fixtures come with the plugin and need no import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"
