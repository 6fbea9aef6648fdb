"""The twins offer the same: names, parameters, defaults; what waits in one is a coroutine in the other."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from servertest.clients import (
    AsyncDatagramClient,
    AsyncStreamClient,
    DatagramClient,
    StreamClient,
    connect,
    connect_async,
)

TWINS = [(StreamClient, AsyncStreamClient), (DatagramClient, AsyncDatagramClient)]
both = pytest.mark.parametrize(("sync", "asynchronous"), TWINS, ids=["stream", "datagram"])


def public(cls: type) -> dict[str, Any]:
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if not name.startswith("_")}


def function(member: Any) -> Any:
    return member.__func__ if isinstance(member, classmethod) else member


@both
def test_same_names(sync: type, asynchronous: type) -> None:
    assert set(public(sync)) == set(public(asynchronous))


@both
def test_same_parameters_and_defaults(sync: type, asynchronous: type) -> None:
    twin = public(asynchronous)
    for name, member in public(sync).items():
        if callable(function(member)):
            assert inspect.signature(function(member)) == inspect.signature(function(twin[name])), name
            assert isinstance(member, classmethod) == isinstance(twin[name], classmethod), name
    assert inspect.signature(sync) == inspect.signature(asynchronous)


@both
def test_every_method_is_a_coroutine_in_one_and_in_the_other_none_is(sync: type, asynchronous: type) -> None:
    for name, member in public(asynchronous).items():
        if callable(function(member)):
            assert inspect.iscoroutinefunction(function(member)), name
            assert not inspect.iscoroutinefunction(function(public(sync)[name])), name


@both
def test_what_is_no_method_is_shared(sync: type, asynchronous: type) -> None:
    for name, member in public(sync).items():
        if not callable(function(member)):
            assert member is public(asynchronous)[name], name


@both
def test_every_waiting_method_takes_a_timeout(sync: type, asynchronous: type) -> None:
    at_once = {"close", "reset"}
    for name, member in public(sync).items():
        if callable(function(member)) and name not in at_once:
            parameter = inspect.signature(function(member)).parameters["timeout"]
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name


def test_the_two_ways_to_connect_take_the_same() -> None:
    def names(function: Any) -> list[tuple[str, Any, Any]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert names(connect) == names(connect_async)


def test_importing_the_clients_loads_neither_asyncio_nor_ssl() -> None:
    code = "import sys, servertest.clients; print(*sorted({'asyncio', 'ssl', 'trustme'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
