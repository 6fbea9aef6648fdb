"""Servers in a simulation."""

from __future__ import annotations

import functools
import socket as _socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from .._support import HandlerFailed, UsageError, format_address
from ..clients import connect
from ._call_sites import SimCallFaults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..launch import Kind
    from ._simulation import Simulation

__all__ = ("SimServer",)


class SimServer:
    """A server that runs in a simulation.

    Attributes:
        server: The server object.
        client_context: For clients of a server with TLS; None without.
        errors: What its handlers have raised. What is left there fails the simulation when it ends; take out what was to be expected.
    """

    def __init__(self, net: Simulation, server: Any, name: str, client_context: Any = None) -> None:
        self.server = server
        self.errors: list[BaseException] = []
        self._raised_for: dict[int, Any] = {}
        self._rude: set[Any] = set()
        self._net = net
        self.client_context = client_context
        self._host = net.kernel.current.host
        self._watch(server)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        self._stopped = False

    def __repr__(self) -> str:
        return f"<{type(self.server).__name__} at {format_address(self.address)}>"

    @property
    def address(self) -> Any:
        """Where clients reach it."""
        address: Any = self.server.server_address
        if isinstance(address, tuple) and address[0] in ("0.0.0.0", "::", ""):  # noqa: S104 - looked up
            address = (
                "127.0.0.1" if self._host is self._net.network.local else self._host.address,
                address[1],
            )
        if (
            isinstance(address, tuple)
            and address[0] == "127.0.0.1"
            and self._host is not self._net.network.local
        ):
            address = (self._host.address, address[1])
        return address

    @property
    def kind(self) -> Kind:
        """What sort of server it is, as far as clients see it."""
        from ..launch import Kind

        family = {_socket.AF_INET6: "inet6", getattr(_socket, "AF_UNIX", -1): "unix"}
        return Kind(
            self.transport,
            family.get(self.server.address_family, "inet"),  # type: ignore[arg-type]
            tls=self.client_context is not None,
        )

    def expect_rude(self, addresses: Iterable[Any]) -> None:
        """Clients at these addresses are slow or rude on purpose: what handlers raise since their connection is gone fails nothing."""
        self._rude.update(addresses)

    @property
    def transport(self) -> Any:
        """What it serves: "stream" or "datagram"."""
        return "datagram" if self.server.socket_type == _socket.SOCK_DGRAM else "stream"

    def _calls(self) -> SimCallFaults | None:
        """What goes wrong where connections are accepted, if anything does."""
        end = getattr(getattr(self.server, "socket", None), "_sim_end", None)
        calls = getattr(end, "calls", None)
        return calls if isinstance(calls, SimCallFaults) else None

    def _watch(self, server: Any) -> None:
        shown = getattr(server, "handle_error", None)

        def note(request: Any, client_address: Any) -> None:
            error = sys.exc_info()[1]
            if error is not None:
                self.errors.append(error)
                self._raised_for[id(error)] = client_address
                self._net.network.recorder.log(f"fails: {type(error).__name__}: {error}")

        if shown is not None and type(server).handle_error.__qualname__ == "BaseServer.handle_error":
            server.handle_error = note

    def _serve(self) -> None:
        self._net.kernel.current.starts = self._calls
        try:
            self.server.serve_forever()
        except Exception as error:  # noqa: BLE001 - told at the end
            self.errors.append(error)

    def connect(self, **options: Any) -> Any:
        """A client of this library that is connected to it; further keywords as for `servertest.clients.connect`."""
        if self.client_context is not None:
            options.setdefault("tls", self.client_context)
        return connect(self.address, transport=self.transport, **options)

    def stop(self) -> None:
        """End its loop and close it, with all that its own `server_close` does. Twice is once."""
        if self._stopped:
            return
        self._stopped = True
        calls = self._calls()
        if calls is not None:
            calls.stop()
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def host_crashed(self, host: Any) -> None:
        """A machine is gone; if it was this one's, there is nothing left to stop."""
        self._stopped = self._stopped or host is self._host

    def raise_errors(self) -> None:
        """Raise what its handlers have raised.

        Raises:
            HandlerFailed: There was something.
        """
        self.errors[:] = [
            error
            for error in self.errors
            if not isinstance(error, OSError) or self._raised_for.get(id(error)) not in self._rude
        ]
        if self.errors:
            import traceback

            text = "".join(traceback.format_exception(self.errors[0]))
            more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
            raise HandlerFailed(f"a handler of {self!r} raised{more}:\n{text}") from self.errors[0]


def make_server(net: Simulation, target: Any, arguments: tuple[Any, ...], kind: Any, address: Any) -> Any:
    """A server object from whatever stands for one: an object, a server class with its arguments, a handler class on a kind."""
    context = None
    if hasattr(target, "serve_forever") and not isinstance(target, type):
        return target, None
    if isinstance(target, type) and hasattr(target, "serve_forever"):
        return target(_address(net, target, address), *arguments), None
    if not callable(target):
        raise UsageError(
            f"a server is made of a handler class, a server class, or a server, not of {target!r}"
        )
    cls = kind
    if isinstance(kind, str) or kind is None:
        cls, context = _class_for(kind or "ThreadingTCPServer")
    return cls(_address(net, cls, address), target, *arguments), context


def _class_for(kind: str) -> tuple[Any, Any]:
    from .. import servers

    name, _, modifier = kind.partition("+")
    cls = getattr(servers, name, None)
    if cls is None:
        raise UsageError(f"there is no kind of server called {name!r}")
    if not modifier:
        return cls, None
    if modifier != "tls":
        raise UsageError(f"a kind may end in +tls, not in +{modifier}")
    if cls.socket_type != _socket.SOCK_STREAM:
        raise UsageError(f"{name} serves datagrams, and TLS is for streams")
    # The handshake belongs where the request is handled, behind the mix-in for concurrency.
    before, last = (cls.__bases__[:-1], cls.__bases__[-1]) if len(cls.__bases__) > 1 else ((), cls)
    made: Any = type(f"{name}TLS", (*before, servers.TLSMixIn, last), {})
    made.tls_context = _credential().server_context()
    return made, _authority().client_context()


@functools.cache
def _authority() -> Any:
    from ..tls import Authority

    # Signatures of RSA have one length; those of ECDSA differ by a byte or two, and with them what passes.
    return Authority(key_type="rsa")


@functools.cache
def _credential() -> Any:
    return _authority().server_credential(("127.0.0.1", 0))


def _address(net: Simulation, cls: Any, address: Any) -> Any:
    if address is not None:
        return address
    if getattr(cls, "address_family", None) == getattr(_socket, "AF_UNIX", -1):
        return net.path()
    host = net.kernel.current.host
    return ("127.0.0.1" if host is net.network.local else host.address, 0)
