"""HTTPServer: for the handlers of http.server, without the reverse look-up of the host's name."""

from __future__ import annotations

import os
import sys

from ._inet import TCPServer
from ._threading import ThreadingMixIn

__all__ = ("HTTPServer", "ThreadingHTTPServer")


class HTTPServer(TCPServer):
    """Serves http.server's request handlers.

    It is http.server.HTTPServer except that it does not ask the name service for a name of its address, which takes up to half a minute where the
    network is not set up for it (CPython issue 106505). `server_name` is the address itself, `server_port` its port.
    """

    # On Windows SO_REUSEADDR lets two servers share a port (CPython issue 85307).
    allow_reuse_address: bool = sys.platform != "win32"

    server_name: str
    server_port: int

    def server_bind(self) -> None:
        """Bind, and note name and port for the handlers."""
        TCPServer.server_bind(self)
        self._servertest_note_address()

    def _servertest_note_address(self) -> None:
        address = self.server_address
        if isinstance(address, tuple):
            self.server_name, self.server_port = address[:2]
        else:
            self.server_name, self.server_port = os.fsdecode(address), 0


class ThreadingHTTPServer(ThreadingMixIn, HTTPServer):
    """HTTPServer with a thread for each connection; like http.server's, it does not wait for them."""

    daemon_threads: bool = True
