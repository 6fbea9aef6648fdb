"""The leak guard: the right test is blamed, with what it left."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

LEAKY = """
import socket, threading
KEPT = []

def test_clean(serve):
    with serve(Upper).connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"

def test_leaky({fixture}):
    KEPT.append(socket.socket())

def test_next(serve):
    serve(Upper)

def test_last():
    while KEPT:
        KEPT.pop().close()
"""


def test_the_test_that_leaks_is_blamed_and_not_the_next(run: Run) -> None:
    result = run(LEAKY.format(fixture="serve"))
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["*test_leaky left something behind:*", "*TCP socket*"])
    result.stdout.no_fnmatch_line("*traceback entries*")


LEAKY_PROCESS = """
import socket
KEPT = []

class Leaky(Upper):
    def handle(self):
        KEPT.append(socket.socket())
        super().handle()

{marker}
def test_leaky(serve):
    with serve(Leaky, host="process").connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"

def test_shared(module_serve):
    with module_serve(Upper, host="process").connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
"""


def test_a_server_process_is_watched_as_the_test_is(run: Run) -> None:
    result = run(LEAKY_PROCESS.format(marker=""))
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*has left something behind in its process*", "*TCP socket*"])
    run(LEAKY_PROCESS.format(marker=""), "--servertest-leaks=off").assert_outcomes(passed=2)
    marker = '@pytest.mark.servertest_no_leak_check(reason="kept")'
    run(LEAKY_PROCESS.format(marker=marker)).assert_outcomes(passed=2)


def test_a_unix_path_that_is_left_behind_is_found(run: Run) -> None:
    result = run("""
import os, socket

def test_before(serve): pass

def test_leaky(serve, tmp_path_factory):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path_factory.getbasetemp() / "s"))

def test_next(serve, tmp_path_factory):
    assert os.path.exists(tmp_path_factory.getbasetemp() / "s")

@pytest.mark.parametrize("kind", ["UnixStreamServer", "UnixDatagramServer", "ForkingUnixStreamServer", "UnixStreamServer+process"])
def test_servers(serve, kind, tmp_path):
    class Nothing(servers.BaseRequestHandler): pass
    serve(Nothing, kind)
    serve(Nothing, kind, address=tmp_path / "s")
""")
    result.assert_outcomes(passed=7, errors=1)
    result.stdout.fnmatch_lines(
        ["*test_leaky left something behind:*", "*1. Unix socket path */s*", "*sock.bind*"]
    )


def test_tests_that_do_not_use_the_plugin_are_left_alone_unless_asked_for(run: Run) -> None:
    run(LEAKY.format(fixture="")).assert_outcomes(passed=4)
    run(LEAKY.format(fixture=""), "--servertest-leaks=all").assert_outcomes(passed=4, errors=1)


def test_the_guard_can_be_switched_off(run: Run) -> None:
    run(LEAKY.format(fixture="serve"), "--servertest-leaks=off").assert_outcomes(passed=4)


def test_a_marker_with_a_reason_excuses_a_test(run: Run) -> None:
    source = LEAKY.format(fixture="serve").replace(
        "def test_leaky", '@pytest.mark.servertest_no_leak_check(reason="kept for the last")\ndef test_leaky'
    )
    run(source).assert_outcomes(passed=4)


def test_a_marker_without_a_reason_is_refused(run: Run) -> None:
    result = run("""
@pytest.mark.servertest_no_leak_check
def test(serve): pass
""")
    assert result.ret != 0
    result.stdout.fnmatch_lines(['*servertest_no_leak_check needs a reason="..."*'])


def test_what_a_fixture_of_a_wider_scope_holds_is_no_leak(run: Run) -> None:
    result = run("""
import socket

@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener

def test_first(serve, listener):
    serve(Upper)

def test_second(serve, listener):
    serve(Upper)
""")
    result.assert_outcomes(passed=2)


def test_leaks_are_a_note_where_the_teardown_fails_anyway(run: Run) -> None:
    result = run("""
import socket
KEPT = []

class Bad(Upper):
    def handle(self):
        raise ZeroDivisionError(self.rfile.readline())

def test_both(serve):
    KEPT.append(socket.socket())
    with serve(Bad).connect() as client:
        client.send_all(b"x\\n")
        client.read_eof()

def test_last():
    KEPT.pop().close()
""")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*an error at ThreadingTCPServer*", "*left something behind*"])


def test_workers_of_a_server_of_a_wider_scope_are_no_leak(run: Run) -> None:
    result = run("""
@pytest.fixture(scope="module")
def upper(module_serve):
    return module_serve(Upper, "ThreadPoolTCPServer")

@pytest.mark.parametrize("number", range(3))
def test_shared(upper, number):
    with upper.connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
""")
    result.assert_outcomes(passed=3)


@pytest.mark.parametrize("options", ["", ", 'ThreadPoolTCPServer'", ", host='process'"])
def test_a_server_of_a_wider_scope_may_be_started_again(run: Run, options: str) -> None:
    result = run(f"""
@pytest.fixture(scope="module")
def upper(module_serve):
    return module_serve(Upper{options})

def ask(upper):
    with upper.connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"

def test_restart(upper):
    upper.restart()
    ask(upper)

def test_stop(upper):
    upper.stop()

def test_start_again(upper):
    upper.restart()
    ask(upper)
""")
    result.assert_outcomes(passed=3)


def test_an_error_of_a_shared_server_fails_the_test_in_which_it_came_up(run: Run) -> None:
    result = run("""
class Bad(Upper):
    def handle(self):
        raise ZeroDivisionError(self.rfile.readline())

@pytest.fixture(scope="module")
def bad(module_serve):
    return module_serve(Bad)

def test_guilty(bad):
    with bad.connect() as client:
        client.send_all(b"x\\n")
        client.read_eof()

def test_innocent(bad):
    pass
""")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_guilty*", "*wider scope than test_guilty*"])


def test_a_marker_that_is_refused_is_one_error(run: Run) -> None:
    result = run("""
@pytest.mark.servertest_no_leak_check
def test(serve): pass
""")
    result.assert_outcomes(errors=1)


def test_what_a_server_process_printed_is_in_the_report(run: Run) -> None:
    result = run("""
class Printing(Upper):
    def handle(self):
        print("from the handler", flush=True)
        super().handle()

def test_fails(serve):
    with serve(Printing, host="process").connect() as client:
        client.send_all(b"hi\\n")
        client.readline()
        assert False
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*output of ThreadingTCPServer+process serving Printing*", "*from the handler*"]
    )
