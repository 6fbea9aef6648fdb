"""The `serve` fixture: a factory of running servers that ends them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._support import HandlerFailed, StillRunning
from ..launch import AsyncioTarget, FactoryTarget, FunctionTarget, Running, WsgiTarget, launch
from ..launch._launch import check_keywords

if TYPE_CHECKING:
    import os
    from contextlib import AbstractContextManager

    from ..launch import Kind
    from ._repeat import Turns

__all__ = ("Serve",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class Serve:
    """Puts servers up and, at the end of its scope, down. Call it as you would `servertest.launch`.

    Each of the methods takes the further keywords of `launch` too: kind, host, address, tls, timeout, transcript.
    """

    def __init__(
        self,
        timeout: float,
        note: Callable[[Running], object] = lambda running: None,
        around: Callable[[], AbstractContextManager[object]] | None = None,
        kind: Kind | str | None = None,
        leak_check: bool = True,
        turns: Turns | None = None,
    ) -> None:
        self._timeout = timeout
        self._note = note
        self._around = around
        self._kind = kind
        self._leak_check = leak_check
        self._turns = turns
        self._complaints: list[str] = []
        self._running: list[Running] = []

    @property
    def servers(self) -> tuple[Running, ...]:
        """The servers put up so far, in that order, those that were stopped in the meantime too."""
        return tuple(self._running)

    def __call__(self, target: Any, *arguments: Any, **options: Any) -> Running:
        """Put up a handler class on a kind, a whole server class with its arguments, a server object, ...

        Returns:
            The server, running. It is stopped when the fixture ends, unless the test has done so.
        """
        check_keywords("serve", target, arguments, options)
        options.setdefault("timeout", self._timeout)
        if self._kind is not None:
            options.setdefault("kind", self._kind)
        if not self._leak_check:
            options["options"] = {"leak_check": False, **(options.get("options") or {})}
        turn = None if self._turns is None else self._turns.take(self._end)
        if turn is not None:
            faults, options["seed"] = turn.settle(options.pop("faults", None), options.get("seed"))
            if faults is not None:
                options["faults"] = faults
        if self._around is None:
            running = launch(target, *arguments, **options)
        else:
            with self._around():
                running = launch(target, *arguments, **options)
            running.around = self._around
        self._running.append(running)
        if turn is not None:
            turn.given_to(running)
        self._note(running)
        return running

    def factory(
        self,
        make: Callable[[Any], Any],
        *,
        transport: Any = "stream",
        held_port: bool = False,
        **options: Any,
    ) -> Running:
        """Put up what `make(address)` returns: a server object that it has bound to that address, or one with start() and stop().

        Args:
            make: The factory.
            transport: "stream" or "datagram".
            held_port: Give it a port number instead of 0, for servers that cannot say which one they got.
            options: As for `launch`.
        """
        return self(FactoryTarget(make, transport, held_port), **options)

    def function(
        self, function: Callable[[Any], object], *, transport: Any = None, **options: Any
    ) -> Running:
        """Run `function(sock)` with the listening socket (or the bound datagram socket) in its hands."""
        return self(FunctionTarget(function, transport), **options)

    def asyncio(self, callback: Callable[..., Any], *, transport: Any = None, **options: Any) -> Running:
        """Put up an asyncio server: a `client_connected_cb(reader, writer)`, or a factory of protocols."""
        return self(AsyncioTarget(callback, transport), **options)

    def wsgi(self, application: Callable[..., Any], **options: Any) -> Running:
        """Put up a WSGI application."""
        return self(WsgiTarget(application), **options)

    def command(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        *,
        ready: Any = None,
        transport: Any = "stream",
        directory: str | os.PathLike[str] | None = None,
        environment: dict[str, str] | None = None,
        seconds: float = 10.0,
        **options: Any,
    ) -> Running:
        """Run a program that serves, with ``{host}``, ``{port}``, ``{path}`` or ``{fd}`` in its arguments.

        Args:
            arguments: The program and its arguments.
            ready: What it prints when it serves: a part of the line, or a pattern whose first group, if any, is the port.
            transport: "stream" or "datagram".
            directory: Its current directory.
            environment: Variables to be added.
            seconds: How long it may take until it serves.
            options: As for `launch`.
        """
        from ..launch._command_target import CommandTarget

        target = CommandTarget(arguments, ready, transport, directory, environment, seconds)
        return self(target, **options)

    def close(self) -> str:
        """Stop all servers, the last one first, whatever the others do.

        Returns:
            What went wrong: errors that were not claimed, servers that had to be forced. Nothing if all is well.
        """
        for running in reversed(self._running):
            self._stop(running)
        complaints, self._complaints = self._complaints, []
        if len(complaints) > 1:
            complaints.insert(0, f"{len(complaints)} servers of this test went wrong")
        return "\n\n".join(complaints)

    def _stop(self, running: Running) -> None:
        try:
            running.stop()
        except (HandlerFailed, StillRunning) as failure:
            self._complaints.append(_with_cause(failure))

    def _end(self, running: Running) -> None:
        """An example of Hypothesis is over: there may be thousands."""
        self._running.remove(running)
        self._stop(running)


def _with_cause(failure: Exception) -> str:
    cause = failure.__cause__
    return f"{failure}\n\n{cause}" if isinstance(cause, HandlerFailed) else str(failure)
