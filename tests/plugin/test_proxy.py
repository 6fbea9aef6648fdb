"""Links between clients and servers: what the fixtures make, how they end, and what a failing test shows of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

ASK = """
import contextlib
from servertest.faults import *

def ask(link, **options):
    with link.connect(**options) as client:
        client.send_all(b"hi\\n")
        return client.readline()
"""


def test_a_link_to_whatever_there_is(run: Run) -> None:
    result = run(
        ASK
        + """
@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingUnixStreamServer", "ThreadPoolTCPServer+tls"])
def test_server(serve, proxy, kind):
    link = proxy(serve(Upper, kind), Latency(0.001) | Slicer(3))
    assert ask(link) == b"HI\\n"
    assert link.hits
    assert proxy.links == (link,)

def test_address(serve, proxy):
    server = serve(Upper)
    assert ask(proxy(server.address, "slicer:1")) == b"HI\\n"
    assert ask(proxy(f"{server.host}:{server.port}", listen="unix")) == b"HI\\n"

def test_another_link(serve, proxy):
    assert ask(proxy(proxy(serve(Upper), Slicer(1)), Slicer(2))) == b"HI\\n"

def test_mock(mock_server, proxy):
    mock_server.expect(b"hi\\n").reply(b"HI\\n")
    assert ask(proxy(mock_server, Slicer(1))) == b"HI\\n"

def test_mock_of_datagrams(make_mock_server, proxy):
    mock = make_mock_server("udp")
    mock.expect(b"hi").reply(b"HI")
    link = proxy(mock, Duplicate(1))
    with link.connect() as client:
        client.send(b"hi")
        assert client.receive() == b"HI"
    mock.forgive()

def test_tls_ends_here(serve, proxy):
    link = proxy(serve(Upper, tls=True), Slicer(1), tls=True, upstream_tls=True)
    assert ask(link) == b"HI\\n"
    assert link.transcript.connections[0].upstream == b"hi\\n"
"""
    )
    result.assert_outcomes(passed=8)


def test_the_ready_made_pair(run: Run) -> None:
    result = run("""
from servertest.faults import Slicer

@pytest.mark.servertest_serve(Upper, "ThreadPoolTCPServer")
@pytest.mark.servertest_proxy(Slicer(1), seed=7)
def test_proxied(served, proxied, proxied_client):
    proxied_client.send_all(b"hi\\n")
    assert proxied_client.readline() == b"HI\\n"
    assert (proxied.seed, proxied.upstream) == (7, served.address)

def test_in_front_of_a_mock(mock_server, proxied_client):
    mock_server.expect(b"hi\\n").reply(b"HI\\n")
    proxied_client.send_all(b"hi\\n")
    assert proxied_client.readline() == b"HI\\n"

def test_nothing_behind_it(proxied): pass
""")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*needs a server behind it: @pytest.mark.servertest_serve(Handler, *"])


@pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
def test_wider_scopes(run: Run, scope: str) -> None:
    result = run(
        ASK
        + f"""
@pytest.fixture(scope="{scope}")
def link({scope}_serve, {scope}_proxy):
    return {scope}_proxy({scope}_serve(Upper), Slicer(1))

class TestIt:
    def test_one(self, link):
        assert ask(link) == b"HI\\n"

    def test_two(self, link, {scope}_proxy):
        assert ask(link) == b"HI\\n"
        assert ask({scope}_proxy(link)) == b"HI\\n"
"""
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("arguments", ["serve, proxy", "proxy, serve", "proxy, threading_tcp_server"])
def test_links_end_before_their_servers(run: Run, arguments: str) -> None:
    result = run(f"""
import socket

@pytest.fixture
def left_open():
    with socket.socket() as client:
        client.settimeout(5)
        yield client

def test_the_client_stays(left_open, {arguments}):
    link = proxy({"serve" if "serve," in arguments or arguments.endswith(" serve") else "threading_tcp_server"}(Upper))
    left_open.connect(link.address)
    left_open.sendall(b"hi\\n")
    assert left_open.recv(3) == b"HI\\n"
""")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("serve(Upper), sed=7", "*proxy() knows no sed=; did you mean seed=?"),
        ("serve(Upper), Slicer(2), Latency(0)", "*joined with |: Slicer(average_size=2) | Latency(delay=0)"),
        ("serve(Upper), [Slicer(2), Slicer(3)]", "*: write Slicer(average_size=2) | Slicer(average_size=3)"),
        ("serve(Upper), Slicer", "*: write Slicer()"),
        ("Upper, Slicer(2)", "*Upper is a class*: proxy(serve(Upper), ...)"),
        ("'http://127.0.0.1:80'", "*'http://127.0.0.1:80' is a URL, not an address*"),
        ("serve(Upper), FailFork()", "*FailFork cannot be done here: *give it to the server"),
    ],
)
def test_what_cannot_be_is_told_with_what_was_meant(run: Run, arguments: str, says: str) -> None:
    result = run(f"from servertest.faults import *\ndef test_it(serve, proxy): proxy({arguments})")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([says])


def test_a_trigger_that_raises_fails_the_test(run: Run) -> None:
    source = (
        ASK
        + """
def bad(site):
    raise LookupError("of mine")

def test_it({serve}, {proxy}):
    link = {proxy}({serve}(Upper), Latency(0).on(when=bad))
    with contextlib.suppress(OSError):
        ask(link)
"""
    )
    result = run(source.format(serve="serve", proxy="proxy"))
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*a fault or a trigger of Link from * raised: LookupError: of mine*"])


def test_a_trigger_that_raises_on_a_link_of_a_wider_scope(run: Run) -> None:
    result = run(
        ASK
        + """
def bad(site):
    raise LookupError("of mine")

@pytest.fixture(scope="module")
def link(module_serve, module_proxy):
    return module_proxy(module_serve(Upper), Latency(0).on(when=bad))

def test_one(link):
    with contextlib.suppress(OSError):
        ask(link)

def test_two(link):
    pass
"""
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_one*", "*raised: LookupError: of mine*"])


def test_a_failing_test_shows_what_hit_which_connection(run: Run) -> None:
    result = run(
        ASK
        + """
def test_it(serve, proxy):
    link = proxy(serve(Upper), ResetPeer(after_bytes=2).on(connection=2), seed=7)
    assert ask(link) == b"HI\\n"
    ask(link)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*servertest transcript of Link from *: its clients*",
            "*servertest faults of Link from *",
            "faults: ResetPeer(after_bytes=2).on(connection=2)",
            "seed: 7",
            "* s  connection 2 upstream    reset_peer: resets after 2 bytes",
        ]
    )


def test_a_failing_test_says_that_nothing_was_hit_and_why_nobody_got_through(run: Run) -> None:
    result = run(
        ASK
        + """
def test_it(refused_address, proxy):
    link = proxy(refused_address, ResetPeer(after_bytes=2))
    ask(link)
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["nothing was hit; 1 connection(s) came", "connection 1: *refused*"])


def test_a_handler_is_not_to_blame_for_what_a_fault_does_to_its_connection(run: Run) -> None:
    result = run(
        ASK
        + """
def cut_off(link, **options):
    with pytest.raises(OSError), link.connect(**options) as client:
        client.send_all(b"hi\\n")
        client.read_exactly(3)

@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingUnixStreamServer"])
def test_it(serve, proxy, kind):
    cut_off(proxy(serve(Upper, kind), downstream(ResetPeer(after_bytes=2))))

def test_through_two_links(serve, proxy):
    cut_off(proxy(proxy(serve(Upper)), downstream(ResetPeer(after_bytes=2))))

def test_around_the_client(serve):
    cut_off(serve(Upper), faults=downstream(ResetPeer(after_bytes=2)))

def test_down(serve, proxy):
    link = proxy(serve(Upper))
    with link.connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
        with link.down(reset=True):
            pass

def test_it_can_be_claimed_all_the_same(serve, proxy):
    server = serve(Upper)
    with server.expects_error(ConnectionResetError):
        cut_off(proxy(server, downstream(ResetPeer(after_bytes=2))))

def test_for_anything_else_it_is(serve, proxy):
    class Broken(servers.BaseRequestHandler):
        def handle(self):
            raise LookupError("of mine")
    with proxy(serve(Broken), Latency(0.001)).connect() as client:
        client.read_eof()

def test_without_a_fault_it_is(serve, proxy):
    server = serve(Upper)
    with proxy(server).connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
        client.reset()
    server.transcript.wait_idle()
"""
    )
    result.assert_outcomes(passed=8, errors=2)
    result.stdout.fnmatch_lines(["*LookupError: of mine*", "*ConnectionResetError*"])
