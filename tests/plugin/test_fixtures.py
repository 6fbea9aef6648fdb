"""What the fixtures put up, at each scope, and what a run that fails shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from servertest import plugin, servers

Run = Callable[..., pytest.RunResult]


def test_serve(run: Run) -> None:
    result = run("""
def test_upper(serve):
    server = serve(Upper)
    with server.connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"

@pytest.mark.parametrize("kind", ["TCPServer", "ForkingUnixStreamServer", "ThreadPoolTCPServer+tls"])
def test_kinds(serve, kind):
    with serve(Upper, kind).connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
    assert len(serve.servers) == 1
""")
    result.assert_outcomes(passed=4)


def test_there_is_a_fixture_for_each_predefined_class_and_no_other() -> None:
    predefined = {
        name
        for name in dir(servers)
        if name.endswith("Server") and name != "BaseServer" and "HTTP" not in name
    }
    assert set(plugin._CLASS_FIXTURES.values()) == predefined


def test_the_fixture_of_a_class(run: Run) -> None:
    result = run("""
def test_fixture(pre_fork_unix_stream_server):
    server = pre_fork_unix_stream_server(Upper)
    assert str(server.kind) == "PreForkUnixStreamServer"
    with server.connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
""")
    result.assert_outcomes(passed=1)


def test_the_other_things_that_serve_puts_up(run: Run) -> None:
    result = run("""
import asyncio, sys, socketserver

async def upper(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()

def function(listener):
    connection, _ = listener.accept()
    with connection:
        connection.sendall(connection.recv(100).upper())

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"hi\\n"]

def ask(server):
    with server.connect() as client:
        client.send_all(b"hi\\n")
        return client.read_eof()

def test_asyncio(serve):
    assert ask(serve.asyncio(upper)) == b"HI\\n"

def test_function(serve):
    assert ask(serve.function(function)) == b"HI\\n"

def test_factory(serve):
    server = serve.factory(lambda address: socketserver.ThreadingTCPServer(address, Upper))
    with server.connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"

def test_wsgi(serve):
    with serve.wsgi(application).connect() as client:
        client.send_all(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert client.read_eof().endswith(b"\\r\\n\\r\\nhi\\n")

def test_command(serve):
    server = serve.command([sys.executable, "-m", "http.server", "--bind", "{host}", "{port}"])
    with server.connect() as client:
        client.send_all(b"GET / HTTP/1.0\\r\\n\\r\\n")
        assert client.read_eof().startswith(b"HTTP/1.0 200 OK")
""")
    result.assert_outcomes(passed=5)


def test_marked_server_and_client(run: Run) -> None:
    result = run("""
@pytest.mark.servertest_serve(Upper, "ThreadPoolTCPServer")
def test_served(served, served_client):
    served_client.send_all(b"hi\\n")
    assert served_client.readline() == b"HI\\n"
    assert str(served.kind) == "ThreadPoolTCPServer"
""")
    result.assert_outcomes(passed=1)


def test_served_without_a_marker_says_what_is_missing(run: Run) -> None:
    result = run("def test_served(served): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*@pytest.mark.servertest_serve(Handler, 'ThreadingTCPServer')*"])


@pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
def test_wider_scopes(run: Run, scope: str) -> None:
    result = run(f"""
@pytest.fixture(scope="{scope}")
def upper({scope}_serve):
    return {scope}_serve(Upper)

class TestBoth:
    def test_first(self, upper):
        with upper.connect() as client:
            client.send_all(b"hi\\n")
            assert client.readline() == b"HI\\n"

    def test_second(self, upper):
        with upper.connect() as client:
            client.send_all(b"hi\\n")
            assert client.readline() == b"HI\\n"
            assert len(upper.transcript.connections) == 2
""")
    result.assert_outcomes(passed=2)


def test_a_server_of_a_wider_scope_may_be_put_up_in_a_test(run: Run) -> None:
    """It stays when the test is over, and that is no leak."""
    result = run("""
def test_first(module_serve):
    with module_serve(Upper).connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"

def test_second(module_serve):
    assert module_serve.servers[0].running
""")
    result.assert_outcomes(passed=2)


def test_authority_and_client_context(run: Run) -> None:
    result = run("""
def test_both(authority, client_context, serve):
    assert client_context.check_hostname
    with serve(Upper, tls=True).connect(tls=client_context) as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
""")
    result.assert_outcomes(passed=1)


def test_refused_address(run: Run) -> None:
    result = run("""
import socket

def test_refused(refused_address):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(refused_address, 5)

@pytest.mark.parametrize("family", ["inet", "unix", "abstract"])
@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_more(make_refused_address, transport, family):
    from servertest.clients import connect
    addresses = {make_refused_address(transport, family=family) for _ in range(3)}
    assert len(addresses) == 3
    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            with connect(address, transport=transport, bind=False) if transport == "datagram" else connect(address) as client:
                client.send(b"x")
                client.receive()
""")
    result.assert_outcomes(passed=7)


def test_a_handler_that_raises_fails_its_test_at_teardown(run: Run) -> None:
    result = run("""
class Bad(Upper):
    def handle(self):
        raise ZeroDivisionError("of the handler")

@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "ForkingTCPServer"])
def test_it_seems_to_work(serve, kind):
    with serve(Bad, kind).connect() as client:
        assert client.read_eof() == b""

def test_it_is_claimed(serve):
    server = serve(Bad)
    with server.expects_error(ZeroDivisionError, match="of the handler"):
        with server.connect() as client:
            client.read_eof()

def test_it_is_popped(serve):
    server = serve(Bad)
    with server.connect() as client:
        client.read_eof()
    server.transcript.wait_for(failures=1)
    assert isinstance(server.errors.pop().exception, ZeroDivisionError)
""")
    result.assert_outcomes(passed=5, errors=3)
    result.stdout.fnmatch_lines(
        [
            "*an error at ForkingTCPServer serving Bad*",
            "*ZeroDivisionError: of the handler*",
            "*#1 127.0.0.1:*",
        ]
    )


def test_all_servers_are_stopped_whatever_some_of_them_do(run: Run) -> None:
    result = run("""
class Bad(Upper):
    def handle(self):
        raise ZeroDivisionError(self.rfile.readline())

def test_two(serve):
    for _ in range(2):
        with serve(Bad).connect() as client:
            client.send_all(b"x\\n")
            client.read_eof()
""")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*2 servers of this test went wrong*"])


def test_a_failing_test_shows_what_passed(run: Run) -> None:
    result = run("""
def test_fails(serve):
    with serve(Upper).connect() as client:
        client.send_all(b"hi\\n")
        client.expect(b"Ho\\n")
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*expected text: b'Ho?n'",
            "*received text: b'HI?n'",
            "*servertest transcript of ThreadingTCPServer serving Upper*",
            "*--> 68 69 0a*",
            "*<-- 48 49 0a*",
        ]
    )
    assert "_steps.py" not in result.stdout.str()  # the test's own line, not our insides


def test_seeds(run: Run) -> None:
    source = """
def test_seed(servertest_seed, faker):
    print("seed", servertest_seed, faker.wire_line(), faker.wire_garbage(), faker.wire_datagram(), faker.wire_blob())
"""
    first, second, other = (
        [
            line
            for line in run(source, "-s", f"--servertest-seed={seed}").outlines
            if line.startswith(("seed", ".seed"))
        ]
        or [line for line in run(source, "-s", f"--servertest-seed={seed}").outlines if "seed " in line]
        for seed in (7, 7, 8)
    )
    assert first == second != other


def test_the_header_says_how_to_repeat_the_run(run: Run) -> None:
    result = run("def test(): pass", "--servertest-seed=7")
    result.stdout.fnmatch_lines(["servertest: seed 7 (again: --servertest-seed=7), leaks: used"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--servertest-seed=abc", "*a seed is a whole number of 0 or more, not 'abc'*"),
        ("--servertest-stop-timeout=0", "*a number of seconds above 0, not '0'*"),
        ("--servertest-leaks=some", "*invalid choice: 'some'*"),
    ],
)
def test_bad_options(run: Run, option: str, message: str) -> None:
    result = run("def test(): pass", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_bad_ini_values(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nservertest_leaks = sometimes\n")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*servertest_leaks is one of used, all, off, not 'sometimes'*"])


def test_markers_are_registered(run: Run) -> None:
    result = run(
        """
@pytest.mark.servertest_no_leak_check(reason="of this test")
def test(serve): pass
""",
        "--strict-markers",
    )
    result.assert_outcomes(passed=1)
