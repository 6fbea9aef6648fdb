"""A server that runs: where it is, what it did, what went wrong, and its end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from .._support import (
    DEFAULT_TIMEOUT,
    STOP_TIMEOUT,
    Addressed,
    AddressInUse,
    Deadline,
    DeadlineExceeded,
    HandlerFailed,
    SocketDirectory,
    StillRunning,
    UsageError,
    bound_socket,
    format_address,
    reachable,
)
from ..transcript import Failure, Transcript
from ._clientele import Clientele
from ._complaint import failure_of, tells_of_loss
from ._errors import Errors, ErrorTypes, ExpectedError, HandlerError
from ._host import Plan
from ._targets import title_of

if TYPE_CHECKING:
    from .._support import Address
    from ..clients.behaviours import Behaving
    from ..faults import Decision, Faults, History, Plan as FaultPlan, Trace
    from ..tls import ClientCredential, ServerCredential
    from ._host import Host, Target
    from ._kinds import Kind
    from ._running_faults import RunningFaults

__all__ = ("Running", "Setup")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


@dataclass(frozen=True, slots=True)
class Setup:
    """What `launch` was asked for.

    Attributes:
        target: What is served.
        kind: Of what kind.
        make_host: Makes the host.
        address: Where, if that was said.
        timeout: Seconds that a stop may take.
        recording: Whether there is a transcript.
        options: What only the host understands.
        faults: What goes wrong at its sockets; None if they are to be left alone.
        seed: Where faults have their random numbers from.
        refuses: Whether it is to be down from the beginning, because `Refuse` is among its faults.
    """

    target: Target
    kind: Kind
    make_host: Callable[[], Host]
    address: Address | None = None
    timeout: float = STOP_TIMEOUT
    recording: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    faults: FaultPlan | None = None
    seed: int | str = 0
    refuses: bool = False


class Running(Addressed):
    """A server under test, from `launch` to `stop`. As a context manager it is stopped at the end of the block.

    Attributes:
        kind: What kind of server it is.
        seed: Where its faults have their random numbers from.
    """

    def __init__(self, setup: Setup) -> None:
        self.kind: Kind = setup.kind
        self._errors = Errors()
        self._transcript: Transcript | None = Transcript() if setup.recording else None
        self._host: Host = setup.make_host()
        self._setup = setup
        self.seed = setup.seed
        self._clientele = Clientele()
        self._fault_state: RunningFaults | None = None
        if setup.faults is not None:
            from ._running_faults import RunningFaults

            self._fault_state = RunningFaults(setup.faults, setup.seed)
        self._refusals = int(setup.refuses)
        self._refusal = contextlib.ExitStack()
        self._directory: SocketDirectory | None = None
        self._made_again: str | None = None
        self._address: Address | None = None
        self._cut_clients: set[Any] = set()
        self._rude_clients: set[Any] = set()
        self._running = False
        self._lock = threading.RLock()
        self._server_tls: ServerCredential | None = None
        self._client_tls: ClientCredential | None = None
        self._client_context: Any = None
        self._forced: list[str] = []
        #: Around whatever takes resources that outlive a test: for servers of a wider scope.
        self.around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext

    # -- where it is

    @property
    def target(self) -> Target:
        """What is served."""
        return self._setup.target

    @property
    def address(self) -> Address:
        """Where clients reach it: a pair, a path, or an abstract name."""
        if self._address is None:
            raise UsageError("the server was not started")
        return self._address

    @property
    def server(self) -> Any:
        """The server object, if it runs in this process; otherwise None."""
        return self._host.server

    @property
    def pid(self) -> int | None:
        """The server's process, if it is not this one."""
        return self._host.pid

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._running

    def __repr__(self) -> str:
        place = format_address(self._address) if self._address is not None else "nowhere yet"
        return f"<{title_of(self.target, self.kind)} on {place}{'' if self._running else ', stopped'}>"

    def __str__(self) -> str:
        return f"{title_of(self.target, self.kind)} on {format_address(self._address)}"

    # -- its life

    def start(self) -> Self:
        """Start it; done by `launch`.

        Raises:
            AddressInUse: Something else holds the address.
            UsageError: It runs already, or the target cannot be served like that.
        """
        with self._lock:
            if self._running:
                raise UsageError(f"{self} runs already")
            try:
                self._start(self._setup.address)
                if self._refusals:
                    self._go_down()
                    self._refusal.enter_context(self._refusing_path())
                    self._note_refusal()
            except BaseException as error:
                if isinstance(error, AddressInUse):
                    _name_holder(error, self._setup.address)
                self._release()
                raise
        return self

    def _start(self, wanted: Address | None) -> None:
        setup = self._setup
        listener = None
        if not setup.target.binds:
            listener = self._bind(wanted)
        elif wanted is None:
            wanted = self._free_address()
        try:
            self._prepare_tls(wanted if listener is None else listener.getsockname())
            plan = Plan(
                target=setup.target,
                kind=setup.kind,
                observer=_Observer(self),
                listener=listener,
                address=wanted,
                tls=self._server_tls,
                timeout=setup.timeout,
                options=setup.options,
            )
            if self._fault_state is not None:
                plan.faults = self._fault_state.setup_for(self._host)
            self._host.start(plan)
            if self._fault_state is not None:
                self._fault_state.started(self._host)
        except BaseException:
            if listener is not None:
                listener.close()
            raise
        self._address = self._host.address
        self._running = True

    def _bind(self, wanted: Address | None) -> socket.socket:
        kind = self.kind
        directory = self._socket_directory() if kind.family == "unix" and wanted is None else None
        return bound_socket(kind.transport, kind.family, address=wanted, directory=directory)

    def _free_address(self) -> Address | None:
        """Where a target that binds its own socket finds a free address."""
        if self.kind.family == "unix":
            return self._socket_directory().path()
        if self.kind.family == "abstract":
            return f"\0servertest-{os.getpid()}-{os.urandom(8).hex()}"
        return {"inet": "127.0.0.1", "inet6": "::1", "dual": "::"}[self.kind.family], 0

    def _socket_directory(self) -> SocketDirectory:
        if self._directory is None:
            self._directory = SocketDirectory()
        return self._directory

    def _prepare_tls(self, address: Address | None) -> None:
        if not self.kind.tls or self._server_tls is not None:
            return
        from ..tls import shared_authority

        profile = "good" if self.kind.tls is True else self.kind.tls
        authority = shared_authority()
        self._server_tls = authority.server_credential(address, profile)
        self._client_tls = authority.client_credential(profile)

    def stop(self, timeout: float | None = None) -> None:
        """Stop it: nothing more is accepted, connections see end of file, handlers end, everything is closed.

        Immediate in the good case. Handlers that are busy get until the deadline; whatever still runs then is
        described and forced. Errors that nobody has claimed are raised here. The second time nothing happens.

        Args:
            timeout: Seconds, instead of those given to `launch`.

        Raises:
            StillRunning: Something had to be forced, or could not even be forced; the message says what it was doing.
            HandlerFailed: The server had errors that were not claimed. If both, the former, caused by the latter.
            UsageError: The caller is one of its handlers.
        """
        self._refuse_from_inside()
        with self._lock:
            try:
                self._halt(timeout)
            finally:
                self._refusal.close()
                self._release()
            self._raise_what_is_left()

    def _refuse_from_inside(self) -> None:
        # Before the lock, which somebody may hold who waits for this very handler.
        if getattr(self._host, "is_here", False):
            raise UsageError(
                f"{self}: a handler cannot stop or restart it from here, for that waits until handlers have ended; "
                "self.server.shutdown() does not wait"
            )

    def _halt(self, timeout: float | None) -> None:
        if not self._running:
            return
        self._running = False
        seconds = self._setup.timeout if timeout is None else timeout
        with self._clientele.closing():
            self._forced += self._host.stop(Deadline(seconds, f"{self} to stop"))

    def _release(self) -> None:
        if self._fault_state is not None:
            self._fault_state.close()
        self._remove_path()
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.close()
        made, self._made_again = self._made_again, None
        if made is not None:
            shutil.rmtree(made)

    def _remove_path(self) -> None:
        """Remove the path that was given; those in our own directory go with it."""
        address = self._address
        if self.kind.family != "unix" or address is None or isinstance(address, tuple) or self._running:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)

    def restart(self) -> None:
        """Stop it and start it again on the same address. Errors and transcript go on; between the two, clients are refused.

        Also after `stop`, as far as nobody else has taken the address meanwhile.

        Raises:
            UsageError: The target cannot be made twice, or the caller is one of its handlers.
            AddressInUse: Somebody else has taken the address.
        """
        self._refuse_from_inside()
        with self._lock, self.down():
            pass

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """A block in which it is down: its connections have ended, and clients are refused. At the end it is up again, on the same address.

        Errors, transcript, hits and faults go on. Datagrams sent to it meanwhile are lost.

        Raises:
            UsageError: The target cannot be made twice, or the caller is one of its handlers.
            AddressInUse: Somebody else has taken the address meanwhile.
        """
        self._refuse_from_inside()
        if not self._setup.target.repeatable:
            raise UsageError(
                f"{self} cannot be restarted: {self.target.name} was made by somebody else; give its class"
            )
        with self.around():
            address = self.address
            with self._lock:
                self._go_down()
            try:
                yield
            finally:
                with self._lock:
                    if not self._refusals:
                        self._up_again(address)

    def _go_down(self) -> None:
        self._halt(None)
        self._remove_path()

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        """A block in which `Refuse` keeps it down, whatever else would put it up again."""
        with contextlib.ExitStack() as stack:
            if not self._refusals:
                stack.enter_context(self.down())
                stack.enter_context(self._refusing_path())
            self._note_refusal()
            self._refusals += 1
            try:
                yield
            finally:
                self._refusals -= 1

    @contextlib.contextmanager
    def _refusing_path(self) -> Iterator[None]:
        """A block in which the path of a Unix server is there, and nobody listens: without it, clients would not find the file."""
        if self.kind.family != "unix":
            yield
            return
        address = cast("str", self._address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
            held.bind(address)
            try:
                yield
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(address)

    def _note_refusal(self) -> None:
        if self._fault_state is not None:
            self._fault_state.refused()

    def _up_again(self, address: Address) -> None:
        self._make_directory_again(address)
        self._host = self._setup.make_host()
        try:
            self._start(address)
        except AddressInUse as error:
            _name_holder(error, address)
            raise

    def crash(self) -> None:
        """Let it die as if its process were killed, in the middle of whatever it does: nothing is closed in order, nothing more is sent.

        This is meant to happen, and fails no test. `restart` puts it up again on the same address.

        Raises:
            UsageError: It runs in this process.
        """
        kill = getattr(self._host, "kill", None)
        if kill is None:
            raise UsageError(
                f'{self} cannot crash by itself, for it runs in this process: give host="process"'
            )
        kill()

    def _make_directory_again(self, address: Address) -> None:
        """After `stop`, the private directory of a Unix path is gone; whoever has made one of that name is not us."""
        if self.kind.family != "unix" or self._setup.address is not None or self._directory is not None:
            return
        made = os.path.dirname(os.fsdecode(cast("str", address)))
        if self._made_again is None:
            os.mkdir(made, mode=0o700)
            self._made_again = made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except (HandlerFailed, StillRunning) as failure:
            if error is None:
                raise
            # What the block raised is what the reader looks for first; mostly it is a consequence of this.
            error.add_note(f"{type(failure).__name__}: {failure}")

    # -- talking to it

    def connect(self, behaviour: Behaving | None = None, **options: Any) -> Any:
        """A client that is connected to it: a `StreamClient`, or a `DatagramClient` if it serves datagrams; a `BehavingClient` if
        a behaviour is given.

        With TLS it trusts the server's certificate, and presents one of its own if the profile says so. When one of its
        deadlines passes, the error shows what the server was doing. A client that is still open when the server is
        stopped is closed then.

        Args:
            behaviour: How the client behaves, such as ``SlowWriter()``, or that as text.
            options: As for the client's own ``connect``: timeout, source, tls, server_hostname, ... With ``tls=None`` it
                speaks plain text to a TLS server. ``host`` replaces the host, for dual-stack servers. With ``faults`` the
                network is bad for this client alone; those that have faults are numbered from 1, with a seed made of the server's.
        """
        from ..clients import connect

        address, settings = self._client_options(options, behaves=behaviour is not None)
        try:
            client: Any = connect(address, behaviour, transport=self.kind.transport, **settings)  # type: ignore[arg-type]
        except OSError as error:
            if not isinstance(error, DeadlineExceeded):  # which has the dump in its message
                error.add_note(self.dump())
            raise
        self._clientele.add(client)
        if self._clientele.note_faults(client, settings):
            self.expect_cut(client.local_address)
        if behaviour is not None:
            self.expect_rude([client.local_address])
        return client

    async def connect_async(self, behaviour: Behaving | None = None, **options: Any) -> Any:
        """As `connect`, for asyncio: an `AsyncStreamClient`, an `AsyncDatagramClient` or an `AsyncBehavingClient`, which the test has
        to close.
        """
        from ..clients import connect_async

        address, settings = self._client_options(options, behaves=behaviour is not None)
        client: Any = await connect_async(address, behaviour, transport=self.kind.transport, **settings)  # type: ignore[arg-type]
        if self._clientele.note_faults(client, settings):
            self.expect_cut(client.local_address)
        if behaviour is not None:
            self.expect_rude([client.local_address])
        return client

    def _client_options(
        self, options: dict[str, Any], *, behaves: bool = False
    ) -> tuple[Address, dict[str, Any]]:
        settings = {"on_deadline": self.dump, **options}
        if behaves or settings.get("faults") is not None:
            from ..faults import derived_seed

            # Not the server's own: equal faults here and there would draw alike.
            settings.setdefault("seed", derived_seed(self.seed, "clients"))
            settings.setdefault("connection", self._clientele.number())
        address = self.address
        if isinstance(address, tuple):
            host = settings.pop("host", None)
            address = (host, *address[1:]) if host else reachable(address)
        if settings.get("tls") is True:
            settings["tls"] = self.client_context()
        if self._client_tls is not None:
            from ..tls import hostname_for

            if self._client_context is None:
                self._client_context = self.client_context()
            settings.setdefault("tls", self._client_context)
            settings.setdefault("server_hostname", hostname_for(self.address))
        return address, settings

    @property
    def client_credential(self) -> ClientCredential | None:
        """What a client needs to speak TLS with this server, as plain data that another process can have; None if it speaks
        none.
        """
        return self._client_tls

    def client_context(self) -> Any:
        """An `ssl.SSLContext` for clients of other libraries: it trusts this server's certificate.

        Raises:
            UsageError: The server speaks no TLS.
        """
        if self._client_tls is None:
            raise UsageError(f"{self} speaks no TLS: put it up with tls=True")
        return self._client_tls.client_context()

    # -- faults

    def faults(self, faults: Faults) -> contextlib.AbstractContextManager[None]:
        """A block in which more goes wrong at the server's sockets: on connections that live and on those that come.

        When the block begins, the faults are at work; when it ends, they are gone, and what they held goes on at once.
        Calls of a forked child keep the faults of the moment at which it was forked. `Refuse` without a trigger is `down`,
        and can be had by every server that can be restarted.

        Raises:
            UsageError: The server was launched without ``faults=``, or cannot have these.
        """
        from ..faults import Plan as FaultPlan, plan
        from ._faults import takes_down

        wanted = plan(faults)
        wanted.check(self.kind.transport)
        at_sockets = FaultPlan(tuple(entry for entry in wanted if not takes_down(entry)))
        blocks = [self._faults_at_sockets(at_sockets)] if at_sockets or not wanted else []
        if len(at_sockets) < len(wanted):
            blocks.append(self._refused())
        return _all_of(blocks)

    def _faults_at_sockets(self, faults: FaultPlan) -> contextlib.AbstractContextManager[None]:
        if self._fault_state is None:
            raise UsageError(
                f"{self} was launched without faults, and its sockets are its own: give launch() faults=plan(None) to change "
                "them later"
            )
        return self._fault_state.block(faults)

    @property
    def hits(self) -> Trace:
        """Which fault hit which connection, when, and how.

        Raises:
            UsageError: The server was launched without ``faults=``.
        """
        if self._fault_state is None:
            raise UsageError(f"{self} was launched without faults, so there are no hits")
        self._catch_up()
        return self._fault_state.hits

    @property
    def fault_report(self) -> str:
        """Its faults, their seed, and what they have done so far; nothing if it has none."""
        return "" if self._fault_state is None else self._fault_state.report()

    # -- what it did, and what went wrong

    @property
    def histories(self) -> list[History]:
        """Faults, seeds and what was decided: at the server, if it has faults, and around its last hundred clients that have."""
        self._catch_up()
        own = [] if self._fault_state is None else [self._fault_state.history("server")]
        return [*own, *self._clientele.histories]

    @property
    def transcript(self) -> Transcript | None:
        """Everything that passed; None if recording is off."""
        self._catch_up()
        return self._transcript

    @property
    def errors(self) -> Errors:
        """What went wrong at the server and was not claimed. What is still here at the end fails the test."""
        self._catch_up()
        return self._errors

    def _catch_up(self) -> None:
        """Take in what a server in another process had told before its client got the reply that the test has seen."""
        catch_up = getattr(self._host, "catch_up", None)
        if catch_up is not None and self._running:
            catch_up()

    def expects_error(
        self,
        types: ErrorTypes = Exception,
        match: str | re.Pattern[str] | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> ExpectedError:
        """A block in which the server is meant to raise. The error is claimed: it does not fail the test, not even if the block
        itself fails.

        Args:
            types: A class of exceptions, or several.
            match: A pattern to be found in the exception's text.
            timeout: Seconds to wait for the error at the end of the block.

        Raises:
            Mismatch: At the end of the block, if no such error has come; at once, if another one has come instead.
            UsageError: `types` is no class of exceptions.
        """
        return ExpectedError(self._errors, types, match, timeout, self._catch_up)

    def _take_error(self, error: HandlerError) -> None:
        if self._transcript is not None:
            self._transcript.add(
                Failure(
                    self._transcript.now(),
                    error.connection,
                    error.where,
                    error.type_name,
                    error.message,
                    error.traceback_text,
                )
            )
        # A handler may merely have noticed that the stop had closed the client which the test left open.
        if not self._lost(error, self._clientele.closed):
            self._errors.add(error)

    def _lost(self, error: HandlerError, clients: set[Any], *, rude: bool = False) -> bool:
        """Whether a handler merely noticed that it had lost one of these clients, or that it was slow or rude."""
        if not clients or not tells_of_loss(error.exception, rude=rude):
            return False
        client = self._client_of(error.connection)
        # Unix clients mostly have no name.
        return not isinstance(client, tuple) or client in clients

    def _client_of(self, connection: int) -> Any:
        known = [] if self._transcript is None else self._transcript.connections
        return next((one.client for one in known if one.number == connection), None)

    def _raise_what_is_left(self) -> None:
        forced, self._forced = self._forced, []
        errors = self._unexcused()
        failure = self._failure(errors) if errors else None
        if forced:
            self._excuse_what_was_told()
            forced += self._open_elsewhere()
            raise StillRunning(f"{self} had to be forced to stop:\n" + "\n".join(forced)) from failure
        if failure is not None:
            raise failure from failure.__cause__

    def _open_elsewhere(self) -> list[str]:
        """The connections of a server in a process of its own, which has told of their bytes and does not keep them."""
        if self._transcript is None or self._host.server is not None:
            return []
        from ._active import last_bytes

        lines = []
        for one in self._transcript.connections:
            if one.transport == "stream" and one.is_open:
                lines += [
                    f"connection {one.number} from {format_address(one.client)}: {one.state}",
                    *last_bytes(one),
                ]
        return lines

    def _excuse_what_was_told(self) -> None:
        """What could not be ended has been told of: the leak guard need not do so again."""
        remains = getattr(self._host, "remains", None)
        if remains is not None:
            from ._leak_excuses import excuse

            excuse(remains())

    def _failure(self, errors: list[HandlerError]) -> HandlerFailed:
        return failure_of(self, errors, self._transcript, self.fault_report)

    def take_complaint(self) -> str:
        """What the errors so far, which nobody has claimed, have to say; they are forgotten then. Nothing if there are none."""
        errors = self._unexcused()
        return str(self._failure(errors)) if errors else ""

    def expect_cut(self, address: Any) -> None:
        """The connection from this address is meant to break: a fault between client and server works on it.

        What a handler raises there because the connection is gone fails no test; `errors` has it all the same.
        """
        self._cut_clients.add(address)

    def expect_rude(self, addresses: Iterable[Any]) -> None:
        """Clients at these addresses are slow or rude on purpose.

        What a handler raises there because the connection is gone, has not spoken in time, or speaks no proper TLS fails no
        test; `errors` has it all the same.
        """
        self._rude_clients.update(addresses)

    def _unexcused(self) -> list[HandlerError]:
        return [
            error
            for error in self._errors.clear()
            if not self._lost(error, self._cut_clients)
            and not self._lost(error, self._rude_clients, rude=True)
        ]

    @property
    def output(self) -> str:
        """What its process has printed last, if it has one of its own."""
        return str(getattr(self._host, "output", ""))

    def dump(self) -> str:
        """What the server is doing now: connections with state and last bytes, threads with stacks, children."""
        state = "running" if self._running else "stopped"
        lines = [f"{self}: {state}"]
        if self._running:
            lines += [self._host.dump(), *self._open_elsewhere()]
        lines += [f"error: {error}" for error in self._errors]
        return "\n".join(line for line in lines if line)


@contextlib.contextmanager
def _all_of(blocks: Iterable[contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """One block within the other."""
    with contextlib.ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block)
        yield


def _name_holder(error: AddressInUse, address: Address | None) -> None:
    """Put into the message who has the address, if that can be told."""
    from ._holder import describe_holder

    if holder := describe_holder(address):
        error.args = (f"{error}; {holder}",)


class _Observer:
    """The observer in the test's own process."""

    def __init__(self, running: Running) -> None:
        self._running = weakref.ref(running)
        self.transcript = running._transcript  # noqa: SLF001 - a part of it

    def failed(self, error: HandlerError) -> None:
        """Keep the error for the test."""
        running = self._running()
        if running is not None:
            running._take_error(error)  # noqa: SLF001 - a part of it

    def decided(self, decision: Decision) -> None:
        """Keep a decision of a fault for the test."""
        running = self._running()
        if running is not None and running._fault_state is not None:  # noqa: SLF001
            running._fault_state.hits.add(decision)  # noqa: SLF001
