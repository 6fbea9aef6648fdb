"""Transcripts for people's tools: capture files, JSON lines, diagrams, ladders."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from servertest.cli import main
from servertest.transcript import (
    Close,
    Connect,
    Data,
    Datagram,
    Event,
    Failure,
    Gap,
    HalfClose,
    Note,
    Transcript,
    event_to_dict,
    ladder,
    parse_wire,
    rungs,
    sequence_diagram,
    write_jsonl,
    write_pcapng,
)
from servertest.transcript._ladder import quoted
from tests.transcript.strategies import EVENTS, RECORDED, examples

TEXT = r"""
@0.000100 connect 1 127.0.0.1:50000 -> 127.0.0.1:25
@0.000200 < "220 ready\r\n"
@0.1 > "HELO "
@0.11 > "me\r\n"
@0.12 < [00 01 02 ff] * 20000
@0.2 note "latency: 3 s"
@0.3 half-close client
@0.5 reset server
connect 2 [::1]:4000 -> [::1]:80
> "GET / HTTP/1.0\r\n\r\n"
< "HTTP/1.0 204 No Content\r\n\r\n"
half-close server
half-close client
close server
connect 3 "" -> "/run/x"
> "unix"
gap < 10
close nobody timeout
peer 4 127.0.0.1:999
> "ping"
< "pong"
failure "handle" "ValueError" "<bad>"
connect 5
> "open"
"""
SOME = parse_wire(TEXT)


def captured(events: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    write_pcapng(events, file, **options)
    return file.getvalue()


def blocks(capture: bytes) -> Iterator[tuple[int, bytes]]:
    while capture:
        kind, size = struct.unpack_from("<II", capture)
        assert size % 4 == 0
        assert struct.unpack_from("<I", capture, size - 4) == (size,)
        yield kind, capture[8 : size - 4]
        capture = capture[size:]


def packets(capture: bytes) -> Iterator[tuple[float, bytes]]:
    for kind, body in blocks(capture):
        if kind == 6:
            _, high, low, size, _ = struct.unpack_from("<IIIII", body)
            yield ((high << 32) + low) / 1e6, body[20 : 20 + size]


def payloads(capture: bytes) -> dict[tuple[bytes, int, bytes, int], bytes]:
    """What each side has sent, put together by sequence numbers as a receiver would."""
    streams: dict[tuple[bytes, int, bytes, int], bytearray] = defaultdict(bytearray)
    expected: dict[Any, int] = {}
    for _, packet in packets(capture):
        if packet[0] >> 4 == 4:
            source, target, protocol, rest = packet[12:16], packet[16:20], packet[9], packet[20:]
            assert struct.unpack_from(">H", packet, 2) == (len(packet),)
        else:
            source, target, protocol, rest = packet[8:24], packet[24:40], packet[6], packet[40:]
        key = (source, *struct.unpack_from(">H", rest), target, *struct.unpack_from(">H", rest, 2))
        if protocol == 17:
            streams[key] += rest[8:]
            continue
        sequence, flags = struct.unpack_from(">I", rest, 4)[0], rest[13]
        data = rest[20:]
        if flags & 2:
            expected[key] = sequence
        assert sequence == expected[key] or not data
        expected[key] = (sequence + len(data) + bool(flags & 3)) % (1 << 32)
        streams[key] += data
    return {key: bytes(data) for key, data in streams.items()}


def test_a_capture_holds_what_was_said() -> None:
    found = payloads(captured([event for event in SOME if not isinstance(event, Gap)]))
    sent = sorted(data for data in found.values() if data)
    assert sent == sorted(
        [
            b"220 ready\r\n" + b"\x00\x01\x02\xff" * 20000,
            b"HELO me\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"HTTP/1.0 204 No Content\r\n\r\n",
            b"unix",
            b"ping",
            b"pong",
            b"open",
        ]
    )


def test_times_ports_and_comments() -> None:
    capture = captured(SOME, began=1_700_000_000, server_port=2525)
    times = [time for time, _ in packets(capture)]
    assert times[0] == pytest.approx(1_700_000_000.0001)
    assert times == sorted(times)
    assert b"latency: 3 s" in capture
    assert b"handle: ValueError: <bad>" in capture
    assert b"given up by the system" in capture
    assert all(2525 in (key[1], key[3]) for key in payloads(captured(parse_wire('> "x"'), server_port=2525)))


@given(RECORDED)
@examples
def test_any_transcript_can_be_written_in_every_form(events: list[Event]) -> None:
    list(blocks(captured(events)))
    write_jsonl(events, io.StringIO())
    Tags().feed(sequence_diagram(events))
    ladder(events)


class Tshark:
    """Wireshark's reader, with all checksums checked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, events: Any, *words: str) -> str:
        file = self._directory / "some.pcapng"
        file.write_bytes(captured(events))
        checks = [word for name in ("tcp", "ip", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
        done = subprocess.run(
            ["tshark", "-r", str(file), *checks, *words],
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        )
        return done.stdout

    def follow(self, events: Any, sort: str, number: int) -> tuple[bytes, bytes]:
        """What client and server have said in one stream."""
        lines = self(events, "-q", "-z", f"follow,{sort},raw,{number}").splitlines()
        hexes = [line for line in lines if re.fullmatch(r"\t?[0-9a-f]+", line)]
        server = b"".join(bytes.fromhex(line.strip()) for line in hexes if line.startswith("\t"))
        return b"".join(bytes.fromhex(line) for line in hexes if not line.startswith("\t")), server


@pytest.fixture
def tshark(tmp_path: Path) -> Tshark:
    if shutil.which("tshark") is None:
        pytest.skip("there is no tshark here")
    return Tshark(tmp_path)


def test_tshark_reads_it(tshark: Tshark) -> None:
    bad = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0"
    assert tshark(SOME, "-Y", bad) == ""
    assert "GET / HTTP/1.0" in tshark(SOME, "-Y", "http")
    assert "latency: 3 s" in tshark(SOME, "-Y", "frame.comment", "-T", "fields", "-e", "frame.comment")
    assert len(tshark(SOME, "-Y", "tcp.flags.reset == 1").splitlines()) == 1


PLACES = {
    "IPv4": "127.0.0.1:50000 -> 127.0.0.1:4000",
    "IPv6": "[::1]:50000 -> [::1]:4000",
    "Unix": '"" -> "/run/socket"',
    "abstract": '@"c" -> @"s"',
    "unknown": "",
    "of two families": "127.0.0.1:50000 -> [::1]:4000",
}
ENDS = {
    "nothing": "",
    "close server": "server",
    'half-close client\n< "late"\nclose server': "both",
    'half-close server\n> "late"\nclose client': "both",
    "reset client": "rst",
    "reset server": "rst",
    'note "a remark"\n> "more"': "",
    "close nobody timeout": "",
    "close server forced": "",
}


@pytest.mark.parametrize("place", PLACES)
def test_tshark_follows_streams_from_everywhere(tshark: Tshark, place: str) -> None:
    events = parse_wire(
        f'connect 1 {PLACES[place]}\n> "hello"\n> [00 ff] * 40000\n< "y" * 70000\n> "bye"\nclose client'
    )
    said = b"hello" + b"\x00\xff" * 40000 + b"bye"
    assert tshark.follow(events, "tcp", 0) == (said, b"y" * 70000)


@pytest.mark.parametrize("end", ENDS)
def test_tshark_sees_how_streams_end(tshark: Tshark, end: str) -> None:
    events = parse_wire(f'> "hello"\n< "world"\n{end if end != "nothing" else ""}')
    (conversation,) = Transcript.from_events(events).connections
    assert tshark.follow(events, "tcp", 0) == (conversation.upstream, conversation.downstream)
    flags = tshark(events, "-T", "fields", "-e", "tcp.flags.fin", "-e", "tcp.flags.reset").splitlines()
    fins, resets = (sum(line.split("\t")[i] in ("1", "True") for line in flags) for i in (0, 1))
    assert resets == (1 if ENDS[end] == "rst" else 0)
    assert fins == (2 if ENDS[end] in ("server", "both") else 0)
    # As Wireshark's own rule for "Bad TCP" has it.
    assert tshark(events, "-Y", "tcp.analysis.flags && !tcp.analysis.window_update") == ""


@pytest.mark.parametrize("address", ["127.0.0.1:5353", "[::1]:5353", '"/run/peer"', "-"])
def test_tshark_follows_datagrams(tshark: Tshark, address: str) -> None:
    events = parse_wire(f'peer 1 {address}\n> "ping"\n< "po"\n< "ng"\n>\n> [00] * 65507')
    assert tshark.follow(events, "udp", 0) == (b"ping" + bytes(65507), b"pong")
    sizes = tshark(events, "-T", "fields", "-e", "udp.length").split()
    assert sizes == ["12", "10", "10", "8", "65515"]


# -- JSON lines


def test_json_lines() -> None:
    file = io.StringIO()
    write_jsonl(SOME, file)
    found = [json.loads(line) for line in file.getvalue().splitlines()]
    assert len(found) == len(SOME)
    assert found[0] == {
        "time": 0.0001,
        "connection": 1,
        "event": "connect",
        "client": ["127.0.0.1", 50000],
        "server": ["127.0.0.1", 25],
    }
    assert found[1] == {
        "time": 0.0002,
        "connection": 1,
        "event": "data",
        "direction": "downstream",
        "size": 11,
        "text": "220 ready\r\n",
    }
    assert base64.b64decode(found[4]["base64"]) == b"\x00\x01\x02\xff" * 20000
    assert {each["event"] for each in found} == {
        "connect",
        "data",
        "note",
        "half-close",
        "close",
        "gap",
        "datagram",
        "failure",
    }


def test_names_that_are_no_utf8_can_be_written(tmp_path: Path) -> None:
    path = os.fsdecode(b"/run/\xff\xc3\xa9")
    with (tmp_path / "x.jsonl").open("w", encoding="utf-8") as file:
        write_jsonl([Connect(0.0, 1, path, "é"), Note(0.0, 1, "é")], file)
    first, second = (tmp_path / "x.jsonl").read_text("utf-8").splitlines()
    assert (json.loads(first)["client"], json.loads(first)["server"]) == (path, "é")
    assert '"é"' in second


@given(EVENTS)
@examples
def test_json_keeps_every_byte(events: list[Event]) -> None:
    for event in events:
        found = event_to_dict(event)
        if isinstance(event, (Data, Datagram)):
            data = found["text"].encode() if "text" in found else base64.b64decode(found["base64"])
            assert data == event.data


# -- diagrams


class Tags(HTMLParser):
    """Makes sure that what is opened is closed, and that nothing is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {name for name, _ in attrs} & {"src", "href", "srcset"}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_diagram_is_one_whole_file_that_fetches_nothing() -> None:
    text = sequence_diagram(SOME, title="a <test>", report="what went <wrong>")
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert "a <test>" in tags.text
    assert "what went <wrong>" in tags.text
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "").replace("HTTP", "")
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    for words in (
        '"220 ready\\r\\n"',
        "in 2 pieces",
        "resets (RST)",
        "latency: 3 s",
        "reset by the server (RST)",
        "<bad>",
    ):
        assert words in tags.text, words
    assert "32 32 30 20 72 65 61 64" in tags.text, "the bytes are there on demand"


def test_a_diagram_of_nothing_and_of_very_much() -> None:
    assert "Nothing passed" in sequence_diagram(Transcript())
    transcript = Transcript()
    number = transcript.connect(None, None)
    for _ in range(2000):
        transcript.data(number, "upstream", b"x")
        transcript.data(number, "downstream", b"y")
    text = sequence_diagram(transcript)
    assert "more, which are left out here" in text
    assert len(text) < 1_500_000


# -- ladders


def test_a_ladder() -> None:
    lines = ladder(SOME, width=90).splitlines()
    assert all(len(line) <= 90 for line in lines)
    (reply,) = [line for line in lines if "220 ready" in line]
    assert re.fullmatch(r"  0\.000200 #1   │◀─+ \"220 ready\\r\\n\" │", reply)
    (request,) = [line for line in lines if "HELO" in line]
    assert re.fullmatch(r"  0\.100000 #1   │ \"HELO me\\r\\n\" in 2 pieces ─+▶│", request)
    assert any("resets (RST)" in line for line in lines)
    assert any("!! handle: ValueError" in line for line in lines)


@pytest.mark.parametrize("room", range(8, 30))
def test_what_is_cut_is_cut_between_signs(room: int) -> None:
    text = quoted(b'\r\n\x00ab\t"\\cdefghijklmnopqrstuvwxyz', room)
    assert len(text) <= room
    assert re.fullmatch(r'"(\\[rnt"\\]|\\x[0-9a-f]{2}|[a-z])*…"', text)


def test_a_ladder_in_colour_says_the_same() -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ladder(SOME, color=True))
    assert plain == ladder(SOME)
    assert "\x1b[" in ladder(SOME, color=True)


def test_a_long_ladder_is_cut_in_the_middle() -> None:
    events = [Data(float(i), 1, "upstream" if i % 2 else "downstream", b"%d" % i) for i in range(100)]
    lines = ladder(events, max_lines=10).splitlines()
    assert len(lines) == 10
    assert any("more ..." in line for line in lines)
    assert '"99"' in lines[-1]


def test_closing_is_shown_once() -> None:
    events: list[Event] = [
        Connect(0, 1, None, None),
        HalfClose(1, 1, "server"),
        HalfClose(2, 1, "client"),
        Close(3, 1, "server", "fin"),
    ]
    assert [(rung.way, rung.text) for rung in rungs(events)][1:] == [
        ("down", "closes (FIN)"),
        ("up", "has finished sending (FIN)"),
    ]
    events.insert(2, Data(1.5, 1, "upstream", b"more"))
    assert [rung.text for rung in rungs(events)][1:] == [
        "has finished sending (FIN)",
        "",
        "has finished sending (FIN)",
        "closes (FIN)",
    ]


def test_pieces_of_different_connections_are_not_mixed() -> None:
    events = [Data(0, 1, "upstream", b"a"), Data(1, 2, "upstream", b"b"), Data(2, 1, "upstream", b"c")]
    assert [(rung.connection, rung.data) for rung in rungs(events)] == [(1, b"a"), (2, b"b"), (1, b"c")]


def test_who_connects_is_told_where_it_is_known() -> None:
    for client, words in (
        (None, "connects"),
        ("", "connects from (unnamed)"),
        (("::1", 80, 0, 0), "connects from [::1]:80"),
    ):
        assert [rung.text for rung in rungs([Connect(0, 1, client, None)])] == [words]


def test_what_else_a_ladder_shows() -> None:
    text = ladder(
        [
            Gap(0, 1, "upstream", 5000),
            Note(0, 0, "two\nlines"),
            Failure(0, 1, "handle", "OSError", "x", ""),
            Close(0, 1, None, "forced"),
            Datagram(0, 2, "upstream", b"", None),
        ]
    )
    for words in (
        "5,000 B not kept",
        r"two\nlines",
        "!! handle: OSError: x",
        "closed by force",
        "an empty datagram",
    ):
        assert words in text


# -- the command


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "some.wire"
    file.write_text(TEXT)
    assert main(["show", str(file)]) == 0
    assert "◀─" in capsys.readouterr().out
    assert main(["show", str(file), "--full"]) == 0
    assert "32 32 30" in capsys.readouterr().out
    html, pcapng, jsonl = (tmp_path / name for name in ("x.html", "x.pcapng", "x.jsonl"))
    assert (
        main(
            [
                "show",
                str(file),
                "--html",
                str(html),
                "--pcapng",
                str(pcapng),
                "--jsonl",
                str(jsonl),
                "--port",
                "25",
            ]
        )
        == 0
    )
    assert "some.wire" in html.read_text()
    assert pcapng.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert len(jsonl.read_text().splitlines()) == len(SOME)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["no.wire"], "cannot be read"),
        (["{file}", "--html", "/no/such/place"], "cannot be written"),
        (["{bad}"], "bad.wire:1"),
    ],
)
def test_show_what_cannot_be(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, bad = tmp_path / "x.wire", tmp_path / "bad.wire"
    file.write_text('> "A"\n')
    bad.write_text("nonsense\n")
    assert main(["show", *(word.format(file=file, bad=bad) for word in words)]) == 2
    assert says in capsys.readouterr().err


def test_show_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.wire"
    file.touch()
    assert main(["show", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: nothing passed\n"


def test_very_many_conversations_are_chosen_from() -> None:
    transcript = Transcript()
    for _ in range(300):
        transcript.close(transcript.connect(None, None), "client", "fin")
    text = sequence_diagram(transcript)
    assert text.count('class="card"') == 200
    assert "and 100 more conversations" in text
