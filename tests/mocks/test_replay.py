"""Recording what passes, and answering as was recorded."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servertest import launch
from servertest._support import DeadlineExceeded, UsageError, refused_address
from servertest.mocks import (
    Extending,
    MockFailed,
    MockServer,
    Recording,
    Scrub,
    record,
    recorded,
    replay,
    scrub_events,
)
from servertest.mocks.peers import Echo, KeyValueStore
from servertest.transcript import (
    Data,
    Delimited,
    Event,
    Failure,
    Gap,
    Note,
    Transcript,
    WireSyntaxError,
    load_exchanges,
    parse_exchanges,
    parse_wire,
)


@pytest.fixture
def store() -> Iterator[Any]:
    with launch(KeyValueStore) as server:
        yield server


def ask(server: Any, *requests: bytes) -> list[bytes]:
    with server.connect() as client:
        replies = []
        for request in requests:
            client.send_all(request + b"\r\n")
            line = client.readline()
            replies.append(line + client.readline() if line.startswith(b"$") and line != b"$-1\r\n" else line)
        return replies


REQUESTS = (b"SET a 1", b"INCR a", b"GET a")
REPLIES = [b"+OK\r\n", b":2\r\n", b"$1\r\n2\r\n"]


def test_there_and_back(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "new" / "store.wire"
    with record(store, file, times=False) as recording:
        assert ask(recording, *REQUESTS) == REPLIES
        assert ask(recording, b"GET a") == [b"$1\r\n2\r\n"]
        assert not file.exists(), "nothing reaches the disk before the end"
    text = file.read_text()
    assert text.startswith("# recorded from KeyValueStore as ThreadingTCPServer\n")
    assert '> "SET a 1\\r\\n"\n< "+OK\\r\\n"\n' in text
    assert text.count("connect") == 2
    assert "127.0.0.1" not in text, "ports are others each time"

    with replay(file) as mock:
        assert ask(mock, *REQUESTS) == REPLIES
        assert ask(mock, b"GET a") == [b"$1\r\n2\r\n"]


def test_the_same_again_gives_the_same_file(store: Any, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        with record(store, tmp_path / name, times=False) as recording:
            ask(recording, *REQUESTS)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]


def test_strictly_means_everything(tmp_path: Path) -> None:
    scripts = parse_exchanges('> "A"\n< "a"\n> "B"\n< "b"\nclose server\n', side="server")
    mock = replay(scripts)
    with mock.connect() as client:
        client.send_all(b"B")
        assert client.read_eof() == b""
    with pytest.raises(MockFailed, match='"B" came, and step 1 expects "A"') as caught:
        mock.stop()
    assert "script:1" in str(caught.value)

    mock = replay(scripts)
    with pytest.raises(MockFailed, match="plays the script for connection 1; there were 0"):
        mock.stop()


def test_again_from_the_beginning() -> None:
    with replay(parse_exchanges('> "A"\n< "a"\nclose server', side="server"), repeat=True) as mock:
        for _ in range(3):
            with mock.connect() as client:
                client.send_all(b"A")
                assert client.read_eof() == b"a"


def test_request_by_request(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "store.wire"
    with record(store, file) as recording:
        ask(recording, b"SET a 1", b"GET a", b"INCR a", b"GET a")
    with replay(file, match="requests", framing=Delimited(b"\r\n")) as mock:
        assert ask(mock, b"GET a", b"GET a", b"GET a") == [b"$1\r\n1\r\n", b"$1\r\n2\r\n", b"$1\r\n2\r\n"]
        assert ask(mock, b"INCR a") == [b":2\r\n"]
        with mock.connect() as client:
            client.send_all(b"DANCE\r\n")
            assert client.read_eof() == b""
        assert '"DANCE" came' in mock.forgive()


def test_greetings_and_ends_request_by_request() -> None:
    text = '< "220 hi\\r\\n"\n> "NOOP\\r\\n"\n< "250 ok\\r\\n"\n> "QUIT\\r\\n"\n< "221 bye\\r\\n"\nclose server\n'
    with replay(parse_exchanges(text, side="server"), match="requests") as mock, mock.connect() as client:
        client.send_all(b"QUIT\r\n")
        assert client.read_eof() == b"220 hi\r\n221 bye\r\n"


TIMED = '@0 > "A"\n@0.5 > "B"\n@1 < "ab"\n@3 < "c"\n@3.5 close server\n'


@pytest.mark.parametrize(
    ("timing", "times"), [("none", [0, 0, 0]), ("original", [0.5, 2, 0.5]), (0.1, [0.05, 0.2, 0.05])]
)
@pytest.mark.parametrize("match", ["strict", "requests"])
def test_timing(timing: Any, times: list[float], match: Any) -> None:
    mock = replay(parse_exchanges(TIMED, side="server"), timing=timing, match=match)
    mock.forgive()
    mock.stop()
    scripts = [script for script in mock.scripts if len(script)]
    (step,) = scripts[0].steps
    acts: list[Any] = step.acts if match == "strict" else step.acts[0].answers[0]  # type: ignore[attr-defined]
    assert [act.delay for act in acts] == pytest.approx(times)


def test_datagrams(tmp_path: Path) -> None:
    file = tmp_path / "echo.wire"
    with (
        launch(Echo, "UDPServer") as server,
        record(server, file) as recording,
        recording.connect() as client,
    ):
        for data in (b"one", b"", b"\x00\xff"):
            client.send(data)
            assert client.receive() == data
    assert "peer 1 -" in file.read_text()
    for match in ("strict", "requests"):
        with replay(file, match=match) as mock, mock.connect() as client:
            for data in (b"one", b"", b"\x00\xff"):
                client.send(data)
                assert client.receive() == data


def test_resets_and_half_closes_are_replayed() -> None:
    with replay(
        parse_exchanges('> "A"\n< "a"\nhalf-close server\n> "B"\nclose client\n', side="server")
    ) as mock:
        with mock.connect() as client:
            client.send_all(b"A")
            assert client.read_eof() == b"a"
            client.send_all(b"B")
    with replay(parse_exchanges('> "A"\nreset server\n', side="server")) as mock, mock.connect() as client:
        client.send_all(b"A")
        with pytest.raises(ConnectionResetError):
            client.read_eof()


def test_patterns_in_a_file() -> None:
    with replay(parse_exchanges('> "AT " /[0-9]+/ "\\n"\n< "ok"\nclose server\n', side="server")) as mock:
        with mock.connect() as client:
            client.send_all(b"AT 12345\n")
            assert client.read_eof() == b"ok"


def test_tls_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "tls.wire"
    with launch(Echo, tls=True) as server:
        upstream_tls = server.client_context()
        with (
            record(server.address, file, tls=True, upstream_tls=upstream_tls) as recording,
            recording.connect() as client,
        ):
            client.send_all(b"secret\n")
            assert client.readline() == b"secret\n"
    assert '> "secret\\n"' in file.read_text()
    with replay(file, tls=True) as mock, mock.connect() as client:
        client.send_all(b"secret\n")
        assert client.readline() == b"secret\n"


# -- secrets


AUTH = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c2VjcmV0\r\nCookie: a=b\r\n\r\n"


def test_secrets_do_not_reach_the_disk_and_may_be_others_when_replayed(tmp_path: Path) -> None:
    file = tmp_path / "auth.wire"
    with (
        launch(Echo) as server,
        record(server, file, scrub=["http"]) as recording,
        recording.connect() as client,
    ):
        client.send_all(AUTH[:60])
        assert client.read_exactly(60) == AUTH[:60]
        client.send_all(AUTH[60:])
        client.read_exactly(len(AUTH) - 60)
    text = file.read_text()
    assert "c2VjcmV0" not in text
    assert "a=b" not in text
    assert "***" in text

    with replay(file, scrub=["http"]) as mock, mock.connect() as client:
        client.send_all(AUTH.replace(b"c2VjcmV0", b"c29tZXRoaW5nIGVsc2U="))
        client.expect(re.compile(rb"(?s:GET .*\*\*\*\r\n\r\n)"))


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, len(AUTH)), max_size=6))
def test_however_the_pieces_fell(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(AUTH)]
    events = [Data(0.0, 1, "upstream", AUTH[a:b]) for a, b in itertools.pairwise(places) if a < b]
    scrubbed = b"".join(event.data for event in scrub_events(events, ["http"]) if isinstance(event, Data))
    assert scrubbed == b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: ***\r\nCookie: ***\r\n\r\n"


def test_words_are_scrubbed_too() -> None:
    events: list[Event] = [
        Note(0, 1, "the password is hunter2"),
        Failure(0, 1, "handle", "ValueError", "hunter2", "... hunter2 ..."),
        Data(0, 1, "upstream", b"hun"),
        Gap(0, 1, "upstream", 5),
        Data(0, 1, "upstream", b"ter2"),
    ]
    found = scrub_events(events, [re.compile(b"hunter2")])
    assert "hunter2" not in repr(found)
    assert found[2:] == events[2:], "what is on both sides of a gap did not belong together"
    assert scrub_events(events, []) == events
    assert scrub_events(events[:1], [Scrub(re.compile(rb"is (?P<secret>\w+)"), b"-")])[0] == Note(
        0, 1, "the password is -"
    )


@pytest.mark.parametrize("wrong", ["passwords", b"(", 3, re.compile("text")])
def test_no_scrub(wrong: Any) -> None:
    with pytest.raises(UsageError, match="scrub"):
        scrub_events([], [wrong])


def test_a_recording_that_cannot_be_scrubbed_is_not_begun(store: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="scrub"):
        record(store, tmp_path / "x", scrub=["passwords"])


# -- modes


def test_once(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "once.wire"
    with recorded(file, store) as server:
        assert isinstance(server, Recording)
        assert ask(server, b"PING") == [b"+PONG\r\n"]
    with recorded(file, lambda: pytest.fail("is not called")) as server:
        assert isinstance(server, MockServer)
        assert ask(server, b"PING") == [b"+PONG\r\n"]


def test_none(store: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--servertest-record=once"):
        recorded(tmp_path / "none.wire", store, mode="none")
    with pytest.raises(UsageError, match="no upstream"):
        recorded(tmp_path / "none.wire")
    with pytest.raises(UsageError, match="one of none, once, new, all"):
        recorded(tmp_path / "none.wire", mode="never")  # type: ignore[arg-type]


def test_all(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "all.wire"
    file.write_text('> "old"\n')
    with recorded(file, store, mode="all") as server:
        ask(server, b"PING")
    assert "old" not in file.read_text()


def test_new(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "new.wire"
    with recorded(file, store, mode="new", times=False) as server:
        ask(server, *REQUESTS)
    before = file.read_text()
    for known in (1, 2):
        with recorded(file, lambda: store, mode="new", times=False, scrub=[rb"PO(?P<secret>NG)"]) as server:
            assert isinstance(server, Extending)
            assert ask(server, *REQUESTS) == REPLIES
            assert ask(server, b"PING") == ([b"+PONG\r\n"] if known == 1 else [b"+PO***\r\n"])
            if known == 2:
                assert ask(server, b"INCR a") == [b":3\r\n"]
    text = file.read_text()
    assert text.startswith(before.rstrip("\n"))
    assert len(load_exchanges(file)) == 3
    assert [script.number for script in load_exchanges(file)] == [1, 2, 3]
    assert "+PO***" in text


def test_whatever_it_is_it_says_where_it_is(tmp_path: Path) -> None:
    """A test need not know whether it replays, records or both."""
    file = tmp_path / "x.wire"
    file.write_text('connect\n< "x"\nclose server\n')
    for mode in ("once", "new", "all"):
        with launch(Echo, "ThreadingTCPServer") as echo, recorded(file, echo, mode=mode) as server:
            assert server.address == (server.host, server.port)
            with server.connect() as client:
                client.half_close()
                client.read_eof()
            server.transcript.wait_idle(timeout=5)
            assert len(server.transcript.connections) == 1
            with pytest.raises(UsageError, match="has no path"):
                _ = server.path


def test_new_is_about_connections(tmp_path: Path) -> None:
    file = tmp_path / "x.wire"
    file.write_text('> "x"\n')
    with pytest.raises(UsageError, match="strict"):
        recorded(file, ("127.0.0.1", 1), mode="new", match="requests")


@pytest.mark.parametrize("kind", ["UDPServer", "UnixDatagramServer"])
def test_new_peers_of_datagrams(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "new.wire"

    def ask_each(server: Any, *words: bytes) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in words]
            for client, word in zip(clients, words, strict=True):
                client.send(word)
                assert client.receive() == word
                client.send(b"more")
                assert client.receive() == b"more"

    with launch(Echo, kind) as echo:
        with recorded(file, echo, times=False) as server:
            ask_each(server, b"one")
        before = file.read_text()
        for _ in range(2):
            # The second time nothing is new, and nobody is asked.
            with recorded(file, lambda: echo, mode="new", times=False) as server:
                assert isinstance(server, Extending)
                ask_each(server, b"one", b"two", b"three")
            assert echo.transcript is not None
            assert sum(one.upstream == b"twomore" for one in echo.transcript.connections) == 1
    text = file.read_text()
    assert text.startswith(before.rstrip("\n"))
    assert [(one.transport, one.number, one.exchanges[0].sent) for one in load_exchanges(file)] == [
        ("datagram", 1, b"one"),
        ("datagram", 2, b"two"),
        ("datagram", 3, b"three"),
    ]


def test_a_server_of_datagrams_that_is_not_there_is_silent(tmp_path: Path) -> None:
    file = tmp_path / "x.wire"
    file.write_text('peer\n> "x"\n')
    with refused_address("datagram") as nowhere, recorded(file, nowhere, mode="new") as server:
        with server.connect() as known, server.connect() as new:
            known.send(b"x")
            server.mock.wait_for(b"x")  # type: ignore[union-attr]
            new.send(b"y")
            with pytest.raises(DeadlineExceeded):
                new.receive(timeout=0.05)


def test_the_same_conversation_gives_the_same_file(tmp_path: Path) -> None:
    texts = []
    for name in ("one.wire", "two.wire"):
        with launch(KeyValueStore) as server, record(server, tmp_path / name, times=False) as recording:
            ask(recording, *REQUESTS)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert texts[0].startswith("# recorded from KeyValueStore as ThreadingTCPServer\n")
    with launch(KeyValueStore) as server, record(server.address, tmp_path / "x.wire") as recording:
        ask(recording, *REQUESTS)
    assert (tmp_path / "x.wire").read_text().startswith(f"# recorded from 127.0.0.1:{server.port}\n")


def test_a_block_that_fails_writes_nothing(store: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), record(store, tmp_path / "x.wire") as recording:
        ask(recording, b"PING")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# -- what cannot be


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("", {}, "no conversation"),
        (
            '> "a"\npeer 2\n> "b"\n',
            {},
            r":2: here are datagrams, and a connection in line 1: .* make two files",
        ),
        ('> "a"\n', {"match": "roughly"}, "match"),
        ('> "a"\n', {"timing": "slow"}, "timing"),
        ('> "a"\n', {"timing": -1}, "timing"),
        ('> /a+/ "\\n"\n', {"framing": Delimited()}, "cut into messages"),
    ],
)
def test_what_cannot_be_replayed(tmp_path: Path, text: str, options: Any, match: str) -> None:
    file = tmp_path / "x.wire"
    file.write_text(text)
    with pytest.raises(UsageError, match=match):
        replay(file, **options)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay(tmp_path / "no.wire")
    (tmp_path / "bad.wire").write_text("nonsense\n")
    with pytest.raises(WireSyntaxError, match=r"bad\.wire:1:1"):
        replay(tmp_path / "bad.wire")


def test_a_recording_is_a_transcript(store: Any, tmp_path: Path) -> None:
    file = tmp_path / "x.wire"
    with record(store, file, addresses=True) as recording:
        ask(recording, *REQUESTS)
        assert "Recording of" in repr(recording)
    transcript = Transcript.from_events(parse_wire(file.read_text()))
    (conversation,) = transcript.connections
    assert conversation.upstream == b"SET a 1\r\nINCR a\r\nGET a\r\n"
    assert conversation.client is not None
