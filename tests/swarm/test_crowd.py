"""Crowds: from their first client to their last, what they tell, and how they end."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from servertest import servers
from servertest._support import AddressError, UsageError, have_ipv6
from servertest.clients.behaviours import HalfOpen, Honest, IdleAfterConnect, SlowWriter
from servertest.swarm import Crowd, Probe, Profile, Result, SwarmFailed, swarm

needs_ipv6 = pytest.mark.skipif(not have_ipv6(), reason="there is no IPv6 here")


class Upper(servers.StreamRequestHandler):
    timeout = 0.5

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Echo(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingUnixStreamServer", "ThreadingTCPServer+tls"])
def test_slow_writers_are_cut_off_and_others_are_served(serve: Any, kind: str) -> None:
    with swarm(serve(Upper, kind), SlowWriter(b"hello\n", bytes_per_second=1), clients=30, seed=3) as crowd:
        assert crowd.probe(b"hi\n", b"HI\n").served
        assert crowd.progress.connections == 30
        assert not crowd.over
        with pytest.raises(UsageError, match="the swarm is not over"):
            _ = crowd.result
    assert crowd.result.cut_off_by_server == 30
    assert crowd.over


@pytest.mark.parametrize(
    ("kind", "listen"),
    [("ThreadingTCPServer", "inet"), ("ThreadingTCPServer", "unix"), ("ThreadingUnixStreamServer", "inet")],
)
def test_through_a_link_a_server_is_not_to_blame_either(
    serve: Any, proxy: Any, kind: str, listen: str
) -> None:
    link = proxy(serve(Upper, kind), listen=listen)
    with swarm(link, SlowWriter(b"hello\n", bytes_per_second=1), clients=5) as crowd:
        pass
    assert crowd.result.cut_off_by_server == 5


def test_a_server_of_one_thread_serves_nobody_else(serve: Any) -> None:
    server = serve(Upper, "TCPServer")
    with swarm(server, IdleAfterConnect(), clients=10, duration=3) as crowd:
        probed = crowd.probe(b"hi\n", b"HI\n", timeout=0.3)
        assert not probed
        assert probed.error.startswith("DeadlineExceeded")
        crowd.stop()
    assert crowd.probe(b"hi\n", re.compile(rb"H.\n"), timeout=15).served


def test_probes_before_during_and_after(serve: Any) -> None:
    probe = Probe(b"hi\n", b"HI\n", interval=0.05)
    with swarm(serve(Upper), SlowWriter(bytes_per_second=1), clients=3, probe=probe) as crowd:
        pass
    probes = crowd.result.probes

    assert all(each.served for each in probes)
    assert probes[0].at < 0 <= probes[1].at
    assert probes[-1].at >= crowd.result.seconds - 0.1
    assert len(probes) >= 4
    assert [each.at for each in probes] == sorted(each.at for each in probes)
    assert crowd.last_probe is not None


def test_probes_of_datagrams(serve: Any) -> None:
    server = serve(Echo, "ThreadingUDPServer")
    with swarm(server, Honest(b"hi", 2, every=0.1), clients=3, duration=0.5) as crowd:
        assert crowd.probe(b"hi", b"HI").reply == b"HI"
        assert crowd.probe(b"hi").served
        assert not crowd.probe(b"hi", b"something else", timeout=0.3).served
    assert crowd.result.finished >= 3


def test_a_probe_without_an_expectation(serve: Any) -> None:
    class Silent(servers.StreamRequestHandler):
        def handle(self) -> None:
            pass

    server = serve(Silent)
    with swarm(server, IdleAfterConnect(), clients=1, duration=1) as crowd:
        assert "closed without a reply" in crowd.probe().error
    with pytest.raises(UsageError, match="above 0"):
        Probe(timeout=0)


@contextlib.contextmanager
def patient() -> Any:
    """An address that holds whoever comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        yield listener.getsockname()


def test_a_block_that_raises_stops_it() -> None:
    with (
        patient() as address,
        pytest.raises(ZeroDivisionError),
        swarm(address, IdleAfterConnect(), duration=60) as crowd,
    ):
        raise ZeroDivisionError
    assert crowd.result.stopped
    assert crowd.result.held == 100
    assert "stopped before its time" in str(crowd.result)


def test_it_can_be_followed_and_stopped() -> None:
    with patient() as address:
        crowd = swarm(address, IdleAfterConnect(), clients=5, duration=60).start()
        crowd.wait_begun()
        seen = next(crowd.follow())
        result = crowd.stop()
        assert crowd.stop() is result
        crowd.close()
    assert seen.open == 5
    assert seen.cut_off_by_server == 0
    assert result.held == 5
    assert "over" in repr(crowd)


def test_it_is_waited_for() -> None:
    with patient() as address:
        crowd = swarm(address, IdleAfterConnect(), clients=5, duration=0.3).start()
        with pytest.raises(UsageError, match="has begun already"):
            crowd.start()
        assert crowd.wait().held == 5
        assert [progress.open for progress in crowd.follow()] == []
        assert crowd.progress.connections == 5


@pytest.mark.parametrize(
    "ask", [Crowd.wait, Crowd.stop, Crowd.wait_begun, lambda crowd: next(crowd.follow())]
)
def test_nothing_is_asked_of_a_swarm_that_has_not_begun(ask: Any) -> None:
    with pytest.raises(UsageError, match=r"has not begun: use it with a with block, or call start\(\)"):
        ask(swarm(("127.0.0.1", 1), "idle"))


def test_without_a_result_there_is_none() -> None:
    with patient() as address:
        crowd = swarm(address, IdleAfterConnect(), clients=5, duration=60).start()
        crowd.close()
        with pytest.raises(SwarmFailed, match="without a result"):
            crowd.wait()


def test_an_engine_that_dies_is_told() -> None:
    with patient() as address:
        crowd = swarm(address, IdleAfterConnect(), clients=5, duration=60).start()
        crowd._runner._child.kill()  # type: ignore[union-attr]
        with pytest.raises(SwarmFailed, match=r"ended without a result \(exit status -9\)"):
            crowd.wait()
        crowd.close()


def test_too_many_clients_are_refused_by_the_limit_of_the_system() -> None:
    with patient() as address, pytest.raises(UsageError, match="clients need 1000064 descriptors"):
        swarm(address, IdleAfterConnect(), clients=1_000_000, duration=1).start()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: swarm(("192.0.2.1", 80), "idle"), "is not on this machine.*--i-own-this-host"),
        (lambda: swarm(("127.0.0.1", 1), "idle", client=3), "did you mean clients="),  # type: ignore[call-arg]
        (lambda: swarm(3, "idle"), "a running server or an address"),
        (lambda: swarm(("127.0.0.1", 1), "idle", engine="ray"), "an engine is 'local'"),  # type: ignore[arg-type]
        (
            lambda: swarm(("127.0.0.1", 1), "idle", options={"workers": 2}),
            "'local' has no options, not 'workers'",
        ),
        (
            lambda: swarm(("127.0.0.1", 1), "idle", engine="locust", options={"worker": 2}),
            "options workers, web, not 'worker'",
        ),
    ],
)
def test_what_cannot_be(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


@pytest.mark.parametrize("engine", ["local", "execnet", "locust"])
def test_a_path_is_meant_as_it_is_seen_from_here(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any
) -> None:
    if engine != "local":
        pytest.importorskip("execnet") if engine == "execnet" else _require_locust()
    server = serve(Upper, "ThreadingUnixStreamServer")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no slash \N{SNOWMAN}").symlink_to(server.path)
    for path in ("no slash \N{SNOWMAN}", "./no slash \N{SNOWMAN}"):
        with swarm(path, Honest(b"hi\n", 3), clients=3, duration=10, engine=engine) as crowd:
            pass
        assert crowd.result.finished == 3


def _require_locust() -> None:
    import importlib.util

    if not importlib.util.find_spec("locust"):
        pytest.skip("locust is not installed here")


@needs_ipv6
def test_a_family_is_chosen(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(Upper, "ThreadingTCPServer+ipv6")
    probe = Probe(b"hi\n", b"HI\n", interval=0.05)
    with swarm(("::1", server.port), Honest(b"hi\n", 3), clients=3, family="inet6", probe=probe) as crowd:
        pass
    assert crowd.result.finished == 3
    assert all(crowd.result.probes)
    with pytest.raises(AddressError, match="cannot be resolved as inet6"):
        swarm(("127.0.0.1", 1), "idle", family="inet6")


def test_a_family_is_that_of_the_honest_client_too(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(Upper)
    asked: list[Any] = []

    def look_up(host: str, port: int, family: int = 0, **options: Any) -> Any:
        asked.append(family)
        return real("127.0.0.1", server.port, family, **options)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    crowd = swarm(("localhost", 1), "idle", family="inet")
    assert asked == [socket.AF_INET]
    assert crowd.probe(b"hi\n", b"HI\n").served


@pytest.mark.parametrize(
    ("kind", "is_noted"), [("ThreadingTCPServer", False), ("ThreadingUnixStreamServer", True)]
)
def test_a_half_open_unix_connection_is_said_to_be_only_silent(serve: Any, kind: str, is_noted: bool) -> None:
    with swarm(serve(Upper, kind), HalfOpen(b"hi\n"), clients=2, duration=0.3) as crowd:
        pass
    assert ("half_open is only silent here" in str(crowd.result)) is is_noted


def test_somebody_elses_host_may_be_ones_own() -> None:
    assert isinstance(swarm(("192.0.2.1", 80), "idle", i_own_this_host=True), Crowd)


def test_a_server_for_datagrams_has_no_slow_writers(serve: Any) -> None:
    with pytest.raises(UsageError, match="SlowWriter is not for a datagram"):
        swarm(serve(Echo, "UDPServer"), SlowWriter())


# -- results


@pytest.fixture(scope="module")
def result() -> Result:
    """Of two behaviours: one is cut off at once, the other is held."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(12):
                one = listener.accept()[0]
                held.append(one)
                if one.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) if _spoke(one) else b"":
                    one.close()

        held: list[socket.socket] = []
        thread = threading.Thread(target=serve)
        thread.start()
        crowd = swarm(
            listener.getsockname(),
            Profile((SlowWriter(b"hello\n"), IdleAfterConnect()), name="<both>", about="a & b"),  # type: ignore[arg-type]
            clients=12,
            duration=1.5,
            probe=Probe(timeout=0.2, interval=0.3),
        )
        with crowd:
            pass
        thread.join(10)
        for each in held:
            each.close()
    return crowd.result


def _spoke(one: socket.socket) -> bool:
    """Whether a slow writer's first byte is there; it comes with the connection."""
    one.settimeout(0.05)
    try:
        return bool(one.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
    finally:
        one.settimeout(None)


def test_a_result_is_a_table(result: Result) -> None:
    text = str(result)

    assert "slow_writer" in text
    assert "idle_after_connect" in text
    assert re.search(r"held to the end +\d+", text)
    assert re.search(r"seed +0", text)
    assert "before" in text
    assert repr(result).startswith("<Result of 12 clients: ")


def test_a_result_is_written(result: Result, tmp_path: Path) -> None:
    for name in ("r.json", "r.html", "r.svg", "r.txt"):
        result.write(tmp_path / name)
    plain = json.loads((tmp_path / "r.json").read_text())
    page = (tmp_path / "r.html").read_text()

    assert plain["clients"] == 12
    assert plain["held"] + plain["closed"] + plain["reset"] + plain["finished"] == plain["connections"]
    assert len(plain["columns"]["how"]) == 12
    assert [each["behaviour"] for each in plain["behaviours"]] == ["slow_writer", "idle_after_connect"]
    assert ElementTree.fromstring((tmp_path / "r.svg").read_text()).tag.endswith("svg")
    assert "&lt;both&gt;" in page
    assert "a &amp; b" in page
    assert "<script" not in page
    assert (tmp_path / "r.txt").read_text() == f"{result}\n"
    with pytest.raises(UsageError, match=r"written as \.json"):
        result.write(tmp_path / "r.pdf")
    with pytest.raises(UsageError, match="cannot be written"):
        result.write(tmp_path / "no" / "r.txt")


def test_a_result_counts_what_became_of_each(result: Result) -> None:
    outcomes = [result.outcome(number) for number in range(1, 13)]

    assert sum(outcome.cut_off_by_server for outcome in outcomes) == result.cut_off_by_server
    assert sum(outcome.how == "held" for outcome in outcomes) == result.held
    assert result.sent == sum(outcome.sent for outcome in outcomes)
    assert result.refused == result.timed_out == result.failed == 0
    assert set(result.percentiles("held", (0, 50, 100))) == {0, 50, 100}
    assert result.times("held") == sorted(result.times("held"))
    with pytest.raises(UsageError, match="times are late, connect"):
        result.times("weight")
    with pytest.raises(UsageError, match="numbered from 1 to 12"):
        result.outcome(13)


def test_time_goes_on_over_the_states(result: Result) -> None:
    moments = result.timeline()

    assert moments[0].at == 0
    assert moments[-1].at == pytest.approx(result.seconds, abs=0.05)
    assert sum(moments[-1].states) == 12
    assert all(number >= 0 for moment in moments for number in moment.states)
