"""What each client sends, piece by piece, is the same on every engine and on any number of processes: what its script says in virtual time."""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest.clients.behaviours import Behaviour, IdleMidRequest, Pipeliner, SlowBody, SlowWriter
from servertest.clients.behaviours._session import Session
from servertest.swarm import Part, Profile, swarm

# Python imports it at its start, in the processes of every engine: each writes down what its sockets send to the server.
_SITE = """
import os, socket

class Telling(socket.socket):
    def send(self, data, *flags):
        count = super().send(data, *flags)
        if self.getpeername()[1] == int(os.environ["TOLD_PORT"]):
            line = f"{os.getpid()}.{self.getsockname()[1]} {bytes(data[:count]).hex()}\\n"
            os.write(log, line.encode())
        return count

log = os.open(os.environ["TOLD_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
socket.socket = Telling
"""

CLIENTS = 24


class Line(servers.StreamRequestHandler):
    """Hangs up as soon as a line is there: the swarm is over when all have sent theirs."""

    def handle(self) -> None:
        self.rfile.readline()


def behave(number: int) -> Behaviour:
    """A part of the profile: what it sends begins with its number, by which it is known again."""
    name = b"%02d" % number
    drip: dict[str, Any] = {"bytes_per_second": 400, "chunk": 7, "variation": 6, "jitter": 1}
    return (
        SlowWriter(name + b"x" * 120 + b"\n", **drip),
        SlowBody(name + b"head", b"y" * 100 + b"\n", repeat=1, **drip),
        Pipeliner(name + b"z" * 30 + b"\n", times=1),
        IdleMidRequest(name + b"w" * 50 + b"\n\n"),  # what is held back is the second end of line
    )[number % 4]


PROFILE = Profile(
    tuple(Part(behave(number)) for number in range(CLIENTS)),
    clients=CLIENTS,
    per_second=50,
    start_jitter=0.2,
    duration=30,
    seed="the same",
)


def in_virtual_time(number: int) -> list[bytes]:
    """What client k sends, without a socket."""
    script = PROFILE.parts[PROFILE.roles()[number - 1]].behaviour.script()
    session, now = Session(script, PROFILE.seed, number, "stream", 0.0), 0.0
    sent = [*session.take(now)]
    while (due := session.due) is not None:
        now = due
        sent += session.take(now)
    return [piece for piece in sent if isinstance(piece, bytes)]


EXPECTED = {
    b"%02d" % PROFILE.roles()[number - 1]: in_virtual_time(number) for number in range(1, CLIENTS + 1)
}


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("local", {}),
        ("execnet", {"gateways": ["popen"] * 2}),
        ("execnet", {"gateways": ["popen"] * 5}),
        ("locust", {"workers": 2}),
    ],
    ids=["local", "execnet-2", "execnet-5", "locust-2"],
)
def test_each_client_sends_the_same_pieces(
    serve: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Any, options: dict[str, Any]
) -> None:
    if engine != "local" and not importlib.util.find_spec(engine):
        pytest.skip(f"{engine} is not installed here")
    server = serve(Line)
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(_SITE)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    for name, value in (
        ("PYTHONPATH", os.pathsep.join(paths)),
        ("TOLD_FILE", str(log)),
        ("TOLD_PORT", str(server.port)),
    ):
        monkeypatch.setenv(name, value)
    with swarm(server, PROFILE, engine=engine, options=options) as crowd:
        pass

    pieces: dict[str, list[bytes]] = defaultdict(list)
    for line in log.read_text().splitlines():
        connection, data = line.split()
        pieces[connection].append(bytes.fromhex(data))
    sent = {
        each[0][:1] + (each[1][:1] if len(each[0]) == 1 else each[0][1:2]): each for each in pieces.values()
    }

    assert sent == EXPECTED
    processes = {connection.partition(".")[0] for connection in pieces}
    assert len(processes) == (len(options.get("gateways", ())) or options.get("workers", 1))
    assert crowd.result.held == 0


def test_what_is_expected_is_worth_comparing() -> None:
    sizes = {tuple(map(len, pieces)) for pieces in EXPECTED.values()}

    assert len(EXPECTED) == CLIENTS
    assert len(sizes) == 12 + 2  # each slow one has pieces of its own
