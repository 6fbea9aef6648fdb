"""TCPServer and UDPServer, which the Unix servers and all combinations build on."""

from __future__ import annotations

import os
import socket
import sys
from _weakref import ref  # weakref takes longer to import

from ._base import BaseServer, _front, is_own, standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = ("TCPServer", "TruncatedDatagramWarning", "UDPServer")

#: Sockets that were made here, and of which no fork has made a copy: what poll(2) finds there is not taken away by another process.
unshared: set[ref[socket.socket]] = set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=unshared.clear)


def note_unshared(sock: socket.socket) -> None:
    """Only this process accepts from the socket."""
    try:
        unshared.add(ref(sock, unshared.discard))
    except TypeError:
        pass  # of a class that a program has put in the socket's place, and that knows no weak references or no hash


def is_unshared(sock: Any) -> bool:
    """Whether that is known."""
    try:
        return ref(sock) in unshared
    except TypeError:
        return False


@standard
class TCPServer(BaseServer):
    """A server of stream connections.

    Class attributes, as in the standard module: `address_family`, `socket_type`, `request_queue_size` (connections that the kernel
    queues), `allow_reuse_address`, `allow_reuse_port`. All are read when they are used, so they may be set between a construction
    with `bind_and_activate=False` and server_bind().

    Class attributes beyond it, all off by default:

    * `detect_address_family`: take the family from the address, so that `("::1", 0)` makes an IPv6 server.
    * `dual_stack`: on IPv6, True takes IPv4 clients too (they appear as `::ffff:a.b.c.d`), False refuses them, None leaves it to the
      system (IPV6_V6ONLY, RFC 3493 section 5.3).
    * `unlink_on_close`: on a Unix socket, server_close() removes the path that this server made, if it is still the same file
      and this is the process that made it.
    """

    address_family: int = socket.AF_INET
    socket_type: int = socket.SOCK_STREAM
    request_queue_size: int = 5 if sys.version_info < (3, 15) else getattr(socket, "SOMAXCONN", 5)
    allow_reuse_address: bool = False
    allow_reuse_port: bool = False
    detect_address_family: bool = False
    dual_stack: bool | None = None
    unlink_on_close: bool = False

    #: (pid, device, inode, path) of the Unix path that server_bind() made.
    _servertest_own_path: tuple[int, int, int, str | bytes] | None = None

    def __init__(
        self,
        server_address: Any,
        RequestHandlerClass: Callable[[Any, Any, Any], Any],
        bind_and_activate: bool = True,
    ) -> None:
        """Make the socket, and unless `bind_and_activate` is false, bind it and listen.

        Raises:
            OSError: the address cannot be had. Nothing is left open then.
        """
        BaseServer.__init__(self, server_address, RequestHandlerClass)
        if self.detect_address_family:
            self.address_family = _family_of(server_address, self.address_family)
        self.socket = _front().socket.socket(self.address_family, self.socket_type)
        note_unshared(self.socket)
        if bind_and_activate:
            try:
                self.server_bind()
                self.server_activate()
            except BaseException:
                self.server_close()
                raise

    @classmethod
    def adopt(
        cls,
        listener: socket.socket | int,
        RequestHandlerClass: Callable[[Any, Any, Any], Any],
        *args: Any,
        **kwargs: Any,
    ) -> Self:
        """A server on a socket that exists already: bound, and listening if it is a stream socket (as systemd hands over).

        Args:
            listener: a socket, which the server then owns and closes, or the number of a descriptor.
            RequestHandlerClass: as ever.
            args: further arguments of this class's constructor, after the handler.
            kwargs: the same, by name; the constructor must pass `bind_and_activate=False` on.

        Raises:
            ValueError: the socket is not of the type that this class serves.
        """
        sock = socket.socket(fileno=listener) if isinstance(listener, int) else listener
        if sock.type != cls.socket_type:
            if isinstance(listener, int):
                sock.detach()  # the caller's, as before
            raise ValueError(
                f"{cls.__name__} serves {_TYPES[cls.socket_type]}s; the socket to adopt is a {_TYPES.get(sock.type, sock.type)}"
            )
        kwargs["bind_and_activate"] = False
        server = cls(sock.getsockname(), RequestHandlerClass, *args, **kwargs)
        server.socket.close()
        server.socket = sock
        if is_unshared(sock):
            unshared.discard(ref(sock))  # whoever had it so far may still accept from it
        server.address_family = sock.family
        server.server_address = sock.getsockname()
        server._servertest_note_address()
        return server

    def _servertest_note_address(self) -> None:
        """Called when server_address is known, however that came about."""

    def _servertest_gets_at_once(self) -> bool:
        return is_own(self, TCPServer, "get_request") or is_own(self, UDPServer, "get_request")

    def server_bind(self) -> None:
        """Bind the socket to server_address, and write there what it was really bound to. May be overridden."""
        front = _front().socket
        family = self.address_family
        if self.allow_reuse_address and hasattr(front, "SO_REUSEADDR"):
            self.socket.setsockopt(front.SOL_SOCKET, front.SO_REUSEADDR, 1)
        # Linux 6.12.9 refuses SO_REUSEPORT elsewhere (CPython issue 128916).
        if (
            self.allow_reuse_port
            and hasattr(front, "SO_REUSEPORT")
            and family in (front.AF_INET, front.AF_INET6)
        ):
            self.socket.setsockopt(front.SOL_SOCKET, front.SO_REUSEPORT, 1)
        if self.dual_stack is not None and family == front.AF_INET6:
            self.socket.setsockopt(front.IPPROTO_IPV6, front.IPV6_V6ONLY, not self.dual_stack)
        if family == getattr(front, "AF_UNIX", None):
            self._servertest_bind_path()
        else:
            self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def _servertest_bind_path(self) -> None:
        address = self.server_address
        if hasattr(address, "__fspath__"):
            address = os.fspath(address)
        try:
            self.socket.bind(address)
        except OSError as error:
            if error.errno is None and isinstance(address, (str, bytes)):
                # CPython refuses a path that does not fit sun_path without naming it.
                size = len(os.fsencode(address))
                raise OSError(
                    f"{error}: {address!r} has {size} bytes, the system takes {_SUN_PATH}; bind a shorter path"
                ) from None
            raise
        if self.unlink_on_close and address and address[0] not in ("\0", 0):
            status = os.stat(address)
            self._servertest_own_path = (os.getpid(), status.st_dev, status.st_ino, os.path.abspath(address))

    def server_activate(self) -> None:
        """Listen. May be overridden."""
        self.socket.listen(self.request_queue_size)

    def server_close(self) -> None:
        """Close the socket, and end serve_forever() if it still runs. May be overridden."""
        self.socket.close()
        self._servertest_wake()
        own, self._servertest_own_path = self._servertest_own_path, None
        if own is not None:
            _unlink_own(own)

    def fileno(self) -> int:
        """The descriptor of the listening socket, for selectors; -1 once it is closed."""
        fd: int = self.socket.fileno()
        return fd

    def get_request(self) -> Any:
        """Accept a connection: (socket, client address). May be overridden."""
        return self.socket.accept()

    def _servertest_accepts_alone(self) -> bool:
        """Whether accept() is known to return at once when poll(2) has said that a connection is there: none that was accepted before has to wait.

        Nor does it wait for what verify_request() does with those before it, which may take its time, look at what is under way, or end the loop.
        """
        return (
            self._servertest_turnstile is None
            and is_unshared(self.socket)
            and _gets_as(TCPServer, self)
            and is_own(self, BaseServer, "verify_request")
        )

    def _servertest_take_bunch(self, limit: int, is_there: Callable[[], bool]) -> int:
        # A thread that has started competes with this one, which gives way at each system call; and after a fork, each page that is written to is
        # copied first. So first all connections, then what is done with them.
        limit = self._servertest_at_once(limit)
        if limit < 2 or not self._servertest_accepts_alone():
            return super()._servertest_take_bunch(limit, is_there)
        taken: list[Any] = []
        try:
            for _ in range(limit):
                try:
                    taken.append(self.get_request())
                except BlockingIOError:
                    break
                except OSError as error:
                    self._servertest_note_accept_error(error)
                    break
                if not is_there():
                    break
        finally:
            self._servertest_take_all(taken)
        return 1

    def shutdown_request(self, request: Any) -> None:
        """Send FIN and close the connection. May be overridden."""
        try:
            # close() alone sends nothing as long as somebody else holds the socket open.
            request.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        """Close the connection. May be overridden."""
        request.close()


class TruncatedDatagramWarning(ResourceWarning):
    """A datagram was longer than max_packet_size, and its rest is lost."""


@standard
class UDPServer(TCPServer):
    """A server of datagrams: a request is (bytes, socket), and nothing needs closing after it.

    Class attributes: `max_packet_size` (bytes of a datagram that are received; the rest is lost, silently as the standard module has it).

    Beyond the standard module: `report_truncation`, off by default, calls handle_truncation() when something was lost.
    """

    allow_reuse_address: bool = False
    allow_reuse_port: bool = False
    socket_type: int = socket.SOCK_DGRAM
    max_packet_size: int = 8192
    report_truncation: bool = False

    #: Whether other processes receive from the same socket: then somebody else may be faster, and waiting would be for ever.
    _servertest_shared = False

    def server_activate(self) -> None:
        """Nothing: datagram sockets do not listen."""

    def get_request(self) -> Any:
        """Receive a datagram: ((bytes, socket), client address). May be overridden."""
        if self.report_truncation:
            return self._servertest_receive_whole()
        if self._servertest_shared:
            data, client_address = self.socket.recvfrom(self.max_packet_size, _MSG_DONTWAIT)
        else:
            data, client_address = self.socket.recvfrom(self.max_packet_size)
        return (data, self.socket), client_address

    def _servertest_take_bunch(self, limit: int, is_there: Callable[[], bool]) -> int:
        # A datagram costs so little that asking the selector before each is a good part of it. Only where nobody has changed how requests are got.
        self._handle_request_noblock()
        if self.report_truncation or _MSG_DONTWAIT is None or not _gets_as(UDPServer, self):
            return 0
        self.service_actions()
        taken, state = 1, self.__dict__
        while (
            taken < limit and self._servertest_gate is None and not state.get("_BaseServer__shutdown_request")
        ):
            try:
                data, client_address = self.socket.recvfrom(self.max_packet_size, _MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                self.handle_accept_error(error)
                break
            taken += 1
            self._servertest_take((data, self.socket), client_address)
            self.service_actions()
        return taken - 1

    def _servertest_receive_whole(self) -> Any:
        data, _, flags, client_address = self.socket.recvmsg(self.max_packet_size)
        request = (data, self.socket)
        if flags & socket.MSG_TRUNC:
            try:
                self.handle_truncation(request, client_address)
            except Warning as warning:
                # Where warnings are errors, it is an error of this request.
                self.handle_error(request, client_address)
                raise OSError(str(warning)) from None
        return request, client_address

    def handle_truncation(self, request: Any, client_address: Any) -> None:
        """Called for a datagram that lost its end, before it is processed; an OSError raised here drops it. May be overridden."""
        import warnings

        warnings.warn(
            f"a datagram from {client_address!r} was cut to max_packet_size={self.max_packet_size} bytes; its rest is lost",
            TruncatedDatagramWarning,
            stacklevel=2,
        )

    def shutdown_request(self, request: Any) -> None:
        """Close the request, which for a datagram is nothing. May be overridden."""
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        """Nothing: a datagram needs no closing. May be overridden."""


_TYPES: dict[int, str] = {socket.SOCK_STREAM: "stream socket", socket.SOCK_DGRAM: "datagram socket"}

#: What fits into sockaddr_un.sun_path beside its closing NUL: unix(7) for Linux; the BSDs and macOS have 104 bytes.
_SUN_PATH = 107 if sys.platform == "linux" else 103


#: recv(2)'s flag for a single call that does not wait; Windows has none.
_MSG_DONTWAIT: int | None = getattr(socket, "MSG_DONTWAIT", None)


def _gets_as(base: type[TCPServer], server: TCPServer) -> bool:
    """Whether nobody has changed how requests are got since `base`, so that we may get them in another way."""
    return (
        is_own(server, base, "get_request")
        and is_own(server, BaseServer, "_handle_request_noblock")
        and type(server.socket) is socket.socket
    )


def _family_of(address: Any, otherwise: int) -> int:
    if isinstance(address, tuple) and address and isinstance(address[0], str) and ":" in address[0]:
        return socket.AF_INET6
    if isinstance(address, tuple) and address and _is_ipv4(address[0]):
        return socket.AF_INET
    if isinstance(address, (str, bytes, os.PathLike)) and hasattr(socket, "AF_UNIX"):
        return socket.AF_UNIX
    return otherwise


def _is_ipv4(host: Any) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, TypeError):
        return False
    return True


def _unlink_own(own: tuple[int, int, int, str | bytes]) -> None:
    pid, device, inode, path = own
    if pid != os.getpid():
        return  # a forked child closes its copy; the path is the parent's
    try:
        status = os.lstat(path)
        if (status.st_dev, status.st_ino) == (device, inode):
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        import warnings

        warnings.warn(
            f"the path of a closed server could not be removed: {error}", ResourceWarning, stacklevel=3
        )
