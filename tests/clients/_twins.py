"""Both twins behind one face, so that a test is written once; and tiny peers for them to talk to."""

from __future__ import annotations

import asyncio
import inspect
import queue
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from servertest.clients import AsyncDatagramClient, AsyncStreamClient, DatagramClient, StreamClient

PATIENCE = 5.0  # how long a peer waits before a broken test fails instead of hanging


class Threads:
    """The clients for threads, as they are."""

    name = "threads"

    def stream(self, sock: socket.socket, **options: Any) -> StreamClient:
        return StreamClient(sock, **options)

    def connect(self, address: Any, **options: Any) -> StreamClient:
        return StreamClient.connect(address, **options)

    def connect_datagram(self, address: Any, **options: Any) -> DatagramClient:
        return DatagramClient.connect(address, **options)

    def close(self) -> None:
        pass


class Asyncio:
    """The asyncio clients, each call run to its end on a loop of the test's own."""

    name = "asyncio"

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def stream(self, sock: socket.socket, **options: Any) -> Any:
        return self._wrap(AsyncStreamClient(sock, **options))

    def connect(self, address: Any, **options: Any) -> Any:
        return self._wrap(self._runner.run(AsyncStreamClient.connect(address, **options)))

    def connect_datagram(self, address: Any, **options: Any) -> Any:
        return self._wrap(self._runner.run(AsyncDatagramClient.connect(address, **options)))

    def close(self) -> None:
        self._runner.close()

    def _wrap(self, client: AsyncStreamClient | AsyncDatagramClient) -> Any:
        return _RunToTheEnd(client, self._runner)


Twin = Threads | Asyncio


class _RunToTheEnd:
    def __init__(self, client: AsyncStreamClient | AsyncDatagramClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute
        return lambda *args, **options: self._runner.run(attribute(*args, **options))

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._client, name, value)

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> Self:
        self._runner.run(cast("AsyncStreamClient", self._client).__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.run(self._client.__aexit__(kind, error, traceback))


class Background:
    """A function that runs in a thread; its result or error is fetched by `result`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(function, *args), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._outcome.put((function(*args), None))
        except BaseException as error:  # noqa: BLE001 (handed on to the test, whatever it is)
            self._outcome.put((None, error))

    def result(self) -> Any:
        """What it returned; raises what it raised."""
        value, error = self._outcome.get(timeout=PATIENCE)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if error is not None:
            raise error
        return value

    def join(self) -> None:
        """Wait until it is over, however it ends."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "a peer in the background did not end"
