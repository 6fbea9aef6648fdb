"""The pytest plugin: fixtures, options and reports. It holds no logic, and imports what does only when it is used.

A run that uses none of it pays for this file alone, which is why nothing else is imported at its top.
"""

from __future__ import annotations

from typing import Any

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from ._pytest import Guard, Serve
    from ._pytest._mocks import MakeMockServer, RecordedServers
    from ._pytest._proxy import MakeLinks
    from ._pytest._repeat import Ledger, Replay, Turns
    from ._pytest._simulate import Simulate
    from ._pytest._swarm import Swarms
    from .launch import Running
    from .mocks import MockServer
    from .proxy import Link

__all__ = ()

OPT_SEED = "--servertest-seed"
OPT_REPLAY = "--servertest-replay"
OPT_SERVE = "--servertest-serve"
OPT_LEAKS = "--servertest-leaks"
OPT_RECORD = "--servertest-record"
OPT_STOP = "--servertest-stop-timeout"
OPT_SIM_SEED = "--servertest-simulate-seed"
INI_REPLAYS = "servertest_replays"
INI_RECORD = "servertest_record"
INI_DIAGRAMS = "servertest_diagrams"
INI_LEAKS = "servertest_leaks"
INI_STOP = "servertest_stop_timeout"

_LEAKS = ("used", "all", "off")
_RECORD = ("none", "once", "new", "all")

_seed_key = pytest.StashKey[int]()
_servers_key = pytest.StashKey["list[Running]"]()
_mocks_key = pytest.StashKey["list[MockServer]"]()
_failed_key = pytest.StashKey[bool]()
_guard_key = pytest.StashKey["Guard"]()
_swarms_key = pytest.StashKey["Swarms"]()
_shared_key = pytest.StashKey["list[Running | Link]"]()
_ledger_key = pytest.StashKey["Ledger"]()
_replay_key = pytest.StashKey["Replay"]()
_broken_key = pytest.StashKey[bool]()
_current_key = pytest.StashKey["pytest.Item"]()

#: One factory fixture for each predefined server class, by its name. Written out, for the classes are not imported here.
_CLASS_FIXTURES = {
    f"{prefix.lower()}{'_' if prefix else ''}{snake}_server": f"{prefix.replace('_', '')}{camel}Server"
    for prefix in ("", "Threading", "Forking", "Thread_Pool", "Pre_Fork", "Selector")
    for snake, camel in (
        ("tcp", "TCP"),
        ("udp", "UDP"),
        ("unix_stream", "UnixStream"),
        ("unix_datagram", "UnixDatagram"),
    )
    if prefix != "Selector" or camel in ("TCP", "UnixStream")
}

#: What puts servers up for one test.
_SERVING = (*_CLASS_FIXTURES, "serve", "make_mock_server")

#: Tests that use one of these are watched by the leak guard.
_OURS = frozenset(
    {
        *_CLASS_FIXTURES,
        *(f"{scope}serve" for scope in ("", "class_", "module_", "package_", "session_")),
        "authority",
        "client_context",
        "make_mock_server",
        "mock_server",
        "recorded_server",
        "proxied",
        "proxied_client",
        *(f"{scope}proxy" for scope in ("", "class_", "module_", "package_", "session_")),
        "make_refused_address",
        "refused_address",
        "served",
        "served_client",
        "simulate",
        "swarm",
    }
)


# -- options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, all of them prefixed."""
    group = parser.getgroup("servertest", "servertest: socket servers under test")
    group.addoption(
        OPT_SEED,
        type=_seed,
        metavar="N",
        help="the run's seed, as printed in the header of another run; by default a new one each time",
    )
    group.addoption(
        OPT_REPLAY,
        metavar="FILE",
        help="repeat a failed test as it was: its report names the file. The same faults and seeds; and the first decision that differs, if one does",
    )
    group.addoption(
        OPT_SERVE,
        action="store_true",
        help="when a test fails, keep its servers up, print how to reach them, and wait for Enter",
    )
    group.addoption(
        OPT_LEAKS,
        choices=_LEAKS,
        help="which tests are watched for what they leave behind: those that use servertest (used, the default), all, or none (off)",
    )
    group.addoption(
        OPT_RECORD,
        choices=_RECORD,
        help="what `recorded_server` writes down: nothing (none), servers of which there is no recording yet (once, the default), "
        "connections that a recording does not have, too (new), everything anew (all)",
    )
    group.addoption(
        OPT_STOP,
        type=_seconds,
        metavar="SECONDS",
        help="how long stopping a server may take before it is forced and the test fails (default: 10)",
    )
    parser.addini(
        INI_REPLAYS,
        "the directory for what repeats failed tests; pytest's cache by default, or a temporary one",
        default="",
    )
    group.addoption(
        OPT_SIM_SEED,
        type=_seed,
        metavar="N",
        help="run simulations with this seed only, as printed when one has failed",
    )
    parser.addini(INI_LEAKS, f"the default of {OPT_LEAKS}", default="used")
    parser.addini(
        INI_DIAGRAMS,
        "the directory for sequence diagrams of failed tests; pytest's cache by default; off for none",
        default="",
    )
    parser.addini(INI_RECORD, f"the default of {OPT_RECORD}", default="once")
    parser.addini(INI_STOP, f"the default of {OPT_STOP}", default="10")


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise pytest.UsageError(f"a seed is a whole number of 0 or more, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(f"{OPT_STOP}: a number of seconds above 0, not {text!r}")
    return seconds


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and choose the seed."""
    config.addinivalue_line(
        "markers",
        "servertest_no_leak_check(reason): what this test leaves behind is not looked at, and why",
    )
    config.addinivalue_line(
        "markers",
        "servertest_serve(target, *arguments, **options): what the fixtures `served` and `served_client` put up",
    )
    config.addinivalue_line(
        "markers",
        "servertest_mock(kind='tcp', **options): what the fixture `mock_server` is made of, as for servertest.mocks.MockServer",
    )
    config.addinivalue_line(
        "markers",
        "servertest_proxy(faults, **options): what is between the server and the fixtures `proxied` and `proxied_client`",
    )
    config.addinivalue_line(
        "markers",
        "servertest_simulate(seeds, **options): run the test once for each seed (a number of them, or an iterable), each time in a "
        "simulation of its own; options as for servertest.sim.Simulation",
    )
    worker = getattr(config, "workerinput", None)  # of pytest-xdist: all workers have the seed of the run
    chosen = worker["servertest_seed"] if worker else config.getoption(OPT_SEED)
    if (path := config.getoption(OPT_REPLAY)) is not None:
        chosen = _load_replay(config, path, chosen)
    if chosen is None:
        import random

        chosen = random.SystemRandom().randrange(2**32)
    config.stash[_seed_key] = chosen
    _leak_mode(config)
    _record_mode(config)
    _stop_timeout(config)


def _load_replay(config: pytest.Config, path: str, seed: int | None) -> int:
    """The seed of the run that is to be repeated."""
    from ._pytest._repeat import Replay, Replaying
    from ._support import UsageError

    try:
        replay = Replay(config.invocation_params.dir / path)
    except UsageError as error:
        raise pytest.UsageError(f"{OPT_REPLAY}: {error}") from None
    if seed not in (None, replay.seed):
        raise pytest.UsageError(
            f"{OPT_SEED}={seed} contradicts {OPT_REPLAY}: the run that is to be repeated had {replay.seed}"
        )
    config.stash[_replay_key] = replay
    config.pluginmanager.register(Replaying(replay))
    return replay.seed


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the run's seed to a worker of pytest-xdist."""
    node.workerinput["servertest_seed"] = node.config.stash[_seed_key]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what was started once for the whole run."""
    import sys

    zygote = sys.modules.get("servertest.launch._zygote")
    if zygote is not None:
        zygote.shutdown_zygote()


def pytest_report_header(config: pytest.Config) -> str:
    """Say what repeats this run."""
    seed = config.stash[_seed_key]
    parts = [f"seed {seed} (again: {OPT_SEED}={seed})", f"leaks: {_leak_mode(config)}"]
    if (replay := _replay(config)) is not None:
        parts.append(f"replay of {replay.test}")
    if config.getoption(OPT_SERVE):
        parts.append("failed tests keep their servers up")
    return "servertest: " + ", ".join(parts)


def _replay(config: pytest.Config) -> Replay | None:
    return config.stash.get(_replay_key, None)


def _leak_mode(config: pytest.Config) -> str:
    mode = str(config.getoption(OPT_LEAKS) or config.getini(INI_LEAKS))
    if mode not in _LEAKS:
        raise pytest.UsageError(f"{INI_LEAKS} is one of {', '.join(_LEAKS)}, not {mode!r}")
    return mode


def _record_mode(config: pytest.Config) -> Any:
    mode = str(config.getoption(OPT_RECORD) or config.getini(INI_RECORD))
    if mode not in _RECORD:
        raise pytest.UsageError(f"{INI_RECORD} is one of {', '.join(_RECORD)}, not {mode!r}")
    return mode


def _stop_timeout(config: pytest.Config) -> float:
    option = config.getoption(OPT_STOP)
    return float(option) if option is not None else _seconds(str(config.getini(INI_STOP)))


# -- around each test


def _uses_us(item: pytest.Item) -> bool:
    return not _OURS.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note what the process holds before the first fixture."""
    item.config.stash[_current_key] = item
    mode = _leak_mode(item.config)
    if mode == "all" or (mode == "used" and _uses_us(item)):
        from ._pytest import Guard, is_excused

        if not is_excused(item):
            item.stash[_guard_key] = Guard(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Compare after the last fixture."""
    guard = item.stash.get(_guard_key, None)
    try:
        result = yield
    except BaseException:
        if guard is not None and (message := guard.complaint()):
            item.add_report_section("teardown", "servertest leaks", message)
        raise
    finally:
        item.stash.get(_servers_key, []).clear()
        item.stash.get(_mocks_key, []).clear()
    if guard is not None:
        del item.stash[_guard_key]
        if message := guard.complaint():
            _complain(message)
    if message := _complaints_of_shared(item):
        _complain(message)
    return result


def _complain(what: str | Sequence[BaseException], more: str = "") -> None:
    """Fail the test with this."""
    from ._pytest._complaints import complain

    complain(what, more)


def _complaints_of_shared(item: pytest.Item) -> str:
    """What servers of a wider scope have to complain of: at the end of the test in which it came up, not of the last one."""
    complaints = [
        f"{complaint}\nIt is of a wider scope than {item.name}, during which this came up."
        for running in item.config.stash.get(_shared_key, [])
        if (complaint := running.take_complaint())
    ]
    return "\n\n".join(complaints)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any, request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """What a fixture of a wider scope takes is not this test's to give back."""
    guard = _current_guard(request.config) if fixturedef.scope != "function" else None
    if guard is None:
        result = yield
    else:
        with guard.adopting():
            result = yield
    if fixturedef.argname == "faker":
        from ._support._wire_data import WireProvider

        result.add_provider(WireProvider)
        if "faker_seed" not in request.fixturenames:
            result.seed_instance(_seed_of(request.node))
    return result


def _current_guard(config: pytest.Config) -> Guard | None:
    item = config.stash.get(_current_key, None)
    return None if item is None else item.stash.get(_guard_key, None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test in a simulation ends with it; with the mark it is called once for each seed."""
    if "simulate" not in getattr(pyfuncitem, "funcargs", ()):
        return None
    from ._pytest._simulate import call_simulated

    servers = pyfuncitem.stash.setdefault(_servers_key, [])
    return call_simulated(pyfuncitem, pyfuncitem.funcargs["simulate"], servers) or None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Show what passed between the servers of a failed test and their clients."""
    report = yield
    servers = item.stash.get(_servers_key, [])
    mocks = item.stash.get(_mocks_key, [])
    ledger = item.stash.get(_ledger_key, None)
    if ledger is not None and ledger.drawn:
        # Those of the example that is reported.
        servers = [one for one in servers if any(one is thing for thing in ledger.things.values())]
    if report.failed and call.when == "call":
        item.stash[_failed_key] = True
    if report.failed and call.excinfo is not None and hasattr(call.excinfo.value, "servertest_headline"):
        from ._pytest._complaints import shorten

        shorten(report, call.excinfo.value)
    if report.failed and mocks:
        from ._pytest._mocks import mock_sections

        report.sections.extend(mock_sections(mocks))
    if report.failed and servers:
        from ._pytest import sections

        mocked = [mock.running for mock in mocks]  # these show more of themselves
        others = [running for running in servers if running not in mocked]
        report.sections.extend(sections(others))
        if text := _diagrams(item, mocks, others):
            report.sections.append(("servertest diagrams", text))
    swarms = item.stash.get(_swarms_key, None)
    if report.failed and swarms is not None:
        report.sections.extend(swarms.sections())
    if ledger is not None:
        _tell_how_to_repeat(item, report, ledger)
    keep = servers and call.when == "call" and item.config.getoption(OPT_SERVE)
    if keep and (report.failed or any(running.errors for running in servers)):
        from ._pytest import keep_serving

        keep_serving(item, servers)
    return report


def _diagrams(item: pytest.Item, mocks: list[MockServer], servers: list[Any]) -> str:
    from ._pytest._diagrams import save_diagrams

    # What passed is the diagram itself.
    shown = [(str(mock), mock.transcript, mock.explain(ladders=False)) for mock in mocks]
    return save_diagrams(item, [*shown, *((str(server), server.transcript, "") for server in servers)])


def _tell_how_to_repeat(item: pytest.Item, report: pytest.TestReport, ledger: Ledger) -> None:
    """Show the links of a failed test, write down what repeats it, and say how; or how well it was repeated."""
    if report.failed:
        item.stash[_broken_key] = True
        if links := _links_of(item, ledger):
            from ._pytest._proxy import link_sections

            report.sections.extend(link_sections(links))
    over = report.when == "teardown"
    replay = _replay(item.config)
    if replay is not None:
        if over:
            outcome = "failed again" if item.stash.get(_broken_key, False) else "passed this time"
            text = f"{item.nodeid} {outcome}: {replay.compare(ledger)}"
            report.user_properties.append(("servertest_replay", text))
    elif (report.failed or (over and item.stash.get(_broken_key, False))) and ledger.histories():
        text = _saved(item, ledger)
        if report.failed:
            report.sections.append(("servertest: to repeat this", text))
    if over:
        del item.stash[_ledger_key]


def _links_of(item: pytest.Item, ledger: Ledger) -> list[Link]:
    """The links of this test, the last five; and those of wider scopes."""
    import sys

    if "servertest.proxy" not in sys.modules:
        return []
    from .proxy import Link

    own = [thing for thing in ledger.things.values() if isinstance(thing, Link)][-5:]
    shared = [one for one in item.config.stash.get(_shared_key, []) if isinstance(one, Link)]
    return own + [one for one in shared if one.running and all(one is not mine for mine in own)]


def _saved(item: pytest.Item, ledger: Ledger) -> str:
    from ._pytest._repeat import again, replay_path, save

    try:
        path = replay_path(item.config, item.nodeid, str(item.config.getini(INI_REPLAYS)))
        save(path, item.nodeid, item.config.stash[_seed_key], ledger)
    except OSError as error:
        return f"{OPT_SEED}={item.config.stash[_seed_key]} (no file could be written: {error})"
    text = again(item.config, path, item)
    if ledger.drawn:
        text += (
            "\nThe examples are Hypothesis' own: it repeats them from its database, or from @example(...)."
        )
    return text


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """When the time is up, say what the servers are doing; the rest is pytest-timeout's."""
    if not _uses_us(item):
        return None
    import threading

    import pytest_timeout

    from ._pytest import start_alarm, start_timer

    servers = item.stash.setdefault(_servers_key, [])
    if settings.method == "signal" and threading.current_thread() is threading.main_thread():
        start_alarm(item, settings.timeout, servers, lambda: pytest_timeout.timeout_sigalrm(item, settings))
    else:
        start_timer(item, settings.timeout, servers, lambda: pytest_timeout.timeout_timer(item, settings))
    return True


# -- fixtures


def _serve(request: pytest.FixtureRequest, kind: str | None = None) -> Iterator[Serve]:
    from ._pytest import Serve

    config = request.config

    def note(running: Running) -> None:
        # On the test that runs now: a server of a wider scope is shown by each test that fails while it is up.
        item = config.stash.get(_current_key, None)
        if item is not None:
            item.stash.setdefault(_servers_key, []).append(running)
        if wide:
            config.stash.setdefault(_shared_key, []).append(running)

    wide = request.scope != "function"
    guarded = _current_guard(config) is not None or (wide and _leak_mode(config) != "off")
    serve = Serve(
        _stop_timeout(config),
        note,
        _adopting(config) if wide else None,
        kind,
        leak_check=guarded,
        turns=_turns(request),
    )
    yield serve
    shared = config.stash.get(_shared_key, [])
    shared[:] = [running for running in shared if running not in serve.servers]
    if message := serve.close():
        # Without a traceback of ours: the handler's own is in the message.
        _complain(message)


def _adopting(config: pytest.Config) -> Callable[[], Any]:
    """Around what a fixture of a wider scope takes while a test runs."""

    def around() -> Any:
        import contextlib

        guard = _current_guard(config)
        return contextlib.nullcontext() if guard is None else guard.adopting()

    return around


def _turns(request: pytest.FixtureRequest) -> Turns:
    """The seeds of what a fixture makes."""
    from ._pytest._repeat import Ledger, Turns

    config = request.config

    def ledger() -> Ledger | None:
        item = config.stash.get(_current_key, None)
        return None if item is None else item.stash.setdefault(_ledger_key, Ledger())

    seed = _seed_of(request.node)
    return Turns(str(request.fixturename), seed, ledger, _replay(config))


def _serve_fixture(scope: Any, name: str) -> Callable[..., Any]:
    @pytest.fixture(scope=scope, name=name)
    def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
        yield from _serve(request)

    serve.__doc__ = (
        f"Put servers up, for the {scope} that uses this: serve(Handler), serve(Handler, 'ForkingTCPServer'), "
        "serve(ServerClass, Handler), serve.factory(...), serve.asyncio(...), serve.wsgi(...), serve.command([...])."
    )
    return serve


def _class_fixture(name: str, kind: str) -> Callable[..., Any]:
    @pytest.fixture(name=name)
    def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
        yield from _serve(request, kind)

    serve.__doc__ = f"Put a handler up on a {kind}: {name}(Handler)."
    return serve


serve = _serve_fixture("function", "serve")
class_serve = _serve_fixture("class", "class_serve")
module_serve = _serve_fixture("module", "module_serve")
package_serve = _serve_fixture("package", "package_serve")
session_serve = _serve_fixture("session", "session_serve")

for _name, _kind in _CLASS_FIXTURES.items():
    globals()[_name] = _class_fixture(_name, _kind)


@pytest.fixture
def served(request: pytest.FixtureRequest, serve: Serve) -> Running:
    """The server that the marker describes: @pytest.mark.servertest_serve(Handler, "ForkingTCPServer")."""
    marker = request.node.get_closest_marker("servertest_serve")
    if marker is None:
        raise pytest.UsageError(
            "the fixture `served` needs to know what to put up: @pytest.mark.servertest_serve(Handler, 'ThreadingTCPServer') "
            "(pytest takes a class alone for what is to be marked: then it is servertest_serve.with_args(Handler))"
        )
    return serve(*marker.args, **marker.kwargs)


@pytest.fixture
def served_client(served: Running) -> Iterator[Any]:
    """A client that is connected to the server of the fixture `served`."""
    with served.connect() as client:
        yield client


def _proxy(request: pytest.FixtureRequest) -> Iterator[MakeLinks]:
    import contextlib

    from ._pytest._proxy import MakeLinks

    config = request.config
    wide = request.scope != "function"
    for name in request.fixturenames:
        # Links end before the servers that they lead to, in whatever order a test names the fixtures.
        if not wide and name in _SERVING:
            request.getfixturevalue(name)
    shared = config.stash.setdefault(_shared_key, [])
    make = MakeLinks(
        _stop_timeout(config),
        _turns(request),
        shared.append if wide else lambda made: None,
        _adopting(config) if wide else contextlib.nullcontext,
    )
    yield make
    shared[:] = [one for one in shared if one not in make.links]
    if message := make.close():
        _complain(message)


def _proxy_fixture(scope: Any, name: str) -> Callable[..., Any]:
    @pytest.fixture(scope=scope, name=name)
    def proxy(request: pytest.FixtureRequest) -> Iterator[MakeLinks]:
        yield from _proxy(request)

    proxy.__doc__ = (
        f"Put faults between clients and a server, for the {scope} that uses this: proxy(server, Latency(0.05) | Slicer(3)). "
        "The server is one that was put up, a mock server, or an address."
    )
    return proxy


proxy = _proxy_fixture("function", "proxy")
class_proxy = _proxy_fixture("class", "class_proxy")
module_proxy = _proxy_fixture("module", "module_proxy")
package_proxy = _proxy_fixture("package", "package_proxy")
session_proxy = _proxy_fixture("session", "session_proxy")


@pytest.fixture
def proxied(request: pytest.FixtureRequest, proxy: MakeLinks) -> Link:
    """A link to the server of the fixture `served` or `mock_server`: @pytest.mark.servertest_proxy(Latency(0.05))."""
    behind = "served" if request.node.get_closest_marker("servertest_serve") else "mock_server"
    if behind == "mock_server" and behind not in request.fixturenames:
        raise pytest.UsageError(
            "the fixture `proxied` needs a server behind it: @pytest.mark.servertest_serve(Handler, 'ThreadingTCPServer'), or the fixture `mock_server`"
        )
    marker = request.node.get_closest_marker("servertest_proxy")
    upstream = request.getfixturevalue(behind)
    return proxy(upstream, *marker.args, **marker.kwargs) if marker is not None else proxy(upstream)


@pytest.fixture
def proxied_client(proxied: Link) -> Iterator[Any]:
    """A client that is connected to the link of the fixture `proxied`."""
    with proxied.connect() as client:
        yield client


@pytest.fixture
def swarm(request: pytest.FixtureRequest) -> Iterator[Swarms]:
    """Crowds of slow or rude clients, and an honest one that tells whether others are still served.

    with swarm(server, SlowWriter(), clients=1000) as crowd: assert crowd.probe(request, reply).served
    """
    from ._pytest._swarm import Swarms

    swarms = Swarms(_seed_of(request.node), request.config)
    request.node.stash[_swarms_key] = swarms
    yield swarms
    swarms.close()


@pytest.fixture
def make_mock_server(request: pytest.FixtureRequest) -> Iterator[MakeMockServer]:
    """Servers that follow a script, as many as a test makes: of TCP, of "udp", with framing=Delimited()."""
    from ._pytest._mocks import MakeMockServer
    from ._pytest._repeat import Ledger

    node = request.node

    def note(mock: MockServer) -> None:
        node.stash.setdefault(_mocks_key, []).append(mock)
        node.stash.setdefault(_servers_key, []).append(mock.running)
        node.stash.setdefault(_ledger_key, Ledger()).add(f"make_mock_server {len(make.servers)}", mock)

    make = MakeMockServer(_stop_timeout(request.config), _seed_of(node), note)
    yield make
    if failures := make.close(failed=node.stash.get(_failed_key, False)):
        _complain(failures, _diagrams(node, [mock for mock in make.servers if mock.problems], []))


@pytest.fixture
def mock_server(request: pytest.FixtureRequest, make_mock_server: MakeMockServer) -> MockServer:
    """A server that follows the script which the test writes: mock_server.expect(b"hi").reply(b"HI").

    It speaks TCP, unless the marker says something else: @pytest.mark.servertest_mock("udp").
    """
    marker = request.node.get_closest_marker("servertest_mock")
    return make_mock_server(*marker.args, **marker.kwargs) if marker is not None else make_mock_server()


@pytest.fixture
def recorded_server(request: pytest.FixtureRequest) -> Iterator[RecordedServers]:
    """Servers that answer from a file beside the test, and are recorded from the real ones when there is none.

    What is recorded and when is said by --servertest-record.
    """
    from ._pytest._mocks import RecordedServers

    node = request.node
    servers = RecordedServers(
        request.path.parent,
        _record_mode(request.config),
        lambda mock: node.stash.setdefault(_mocks_key, []).append(mock),
    )
    yield servers
    if failures := servers.close(failed=node.stash.get(_failed_key, False)):
        _complain(failures)


@pytest.fixture
def simulate(request: pytest.FixtureRequest) -> Iterator[Simulate]:
    """What begins a simulation, in which the test takes part until it ends; call it for the network.

    With @pytest.mark.servertest_simulate(seeds=200) the test runs once for each seed, and the first that fails is reported.
    """
    from ._pytest._simulate import Simulate

    simulate = Simulate(_seed_of(request.node), request.config.getoption(OPT_SIM_SEED))
    yield simulate
    simulate.abandon()


@pytest.fixture(scope="session")
def authority() -> Any:
    """The certificate authority of this run: a `servertest.tls.Authority`."""
    from .tls import shared_authority

    return shared_authority()


@pytest.fixture
def client_context(authority: Any) -> Any:
    """An `ssl.SSLContext` for clients, that trusts what the authority has issued."""
    return authority.client_context()


@pytest.fixture
def make_refused_address() -> Iterator[Callable[..., Any]]:
    """A factory of addresses that refuse connections as long as the test runs: each is bound, and nobody listens.

    make_refused_address(transport="stream", family="inet"): also "datagram"; "inet6", "dual", "unix", "abstract".
    """
    import contextlib

    from ._support import refused_address

    with contextlib.ExitStack() as held:

        def make(transport: Any = "stream", family: Any = "inet") -> Any:
            return held.enter_context(refused_address(transport, family))

        yield make


@pytest.fixture
def refused_address(make_refused_address: Callable[..., Any]) -> Any:
    """A loopback address that refuses connections as long as the test runs: what make_refused_address() gives."""
    return make_refused_address()


@pytest.fixture
def servertest_seed(request: pytest.FixtureRequest) -> int:
    """This test's own seed, made of the run's seed and the test's name."""
    return _seed_of(request.node)


def _seed_of(node: Any) -> int:
    import hashlib

    text = f"{node.config.stash[_seed_key]} {node.nodeid}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
