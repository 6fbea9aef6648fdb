"""Other people's clients against scripted and replayed servers, and what they make of faults on chosen steps."""

from __future__ import annotations

import contextlib
import ftplib
import http.client
import http.server
import imaplib
import io
import re
import shutil
import smtplib
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.backoff
import redis.retry
from dnslib import RR, A, DNSRecord

from servertest import launch
from servertest.faults import Latency, ResetPeer, Slicer
from servertest.mocks import Frame, MockServer, Request, Script, Template, record, replay
from servertest.mocks.peers import KeyValueStore
from servertest.transcript import Delimited, LengthPrefixed

LINES = Delimited(b"\r\n")

# -- smtplib


def mail(script: Script) -> Script:
    """A server that takes one mail."""
    script.banner(b"220 mail.example ready")
    script.expect(re.compile(rb"(?i:ehlo) (?P<who>.*)")).reply(Template(b"250 hello {who}"))
    script.expect(re.compile(rb"(?i:mail from:)<(?P<sender>[^>]*)>.*")).reply(b"250 ok")
    script.expect(re.compile(rb"(?i:rcpt to:)<.*>")).at_least(1).reply(b"250 ok")
    script.expect(re.compile(rb"(?i:data)")).reply(b"354 go on")
    script.expect(re.compile(rb"[^.].*|")).at_least(1)
    script.expect(b".").reply(Template(b"250 got it from {sender}"))
    script.expect(re.compile(rb"(?i:quit)")).reply(b"221 bye").close()
    return script


def send_mail(address: Any) -> Any:
    with smtplib.SMTP(address[0], address[1], timeout=5) as client:
        return client.sendmail(
            "ann@example.org", ["bob@example.org", "eve@example.org"], "Subject: hi\r\n\r\nhello\r\n"
        )


def test_smtplib(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    mail(mock)
    assert send_mail(mock.address) == {}
    mock.assert_received(re.compile(rb"(?i:rcpt to:.*)"), times=2)
    mock.assert_received(b"hello")


def test_smtplib_takes_a_reply_byte_by_byte(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES, faults=Slicer(average_size=1))
    mail(mock)
    assert send_mail(mock.address) == {}


def test_smtplib_when_one_recipient_is_refused(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    mock.banner(b"220 ready")
    mock.expect(re.compile(rb"(?i:ehlo .*)")).reply(b"250 hello")
    mock.expect(re.compile(rb"(?i:mail .*)")).reply(b"250 ok")
    with mock.any_order():
        mock.expect(re.compile(rb"(?i:rcpt to:<bob@.*)")).reply(b"250 ok")
        mock.expect(re.compile(rb"(?i:rcpt to:<eve@.*)")).reply(b"550 who is that?")
    mock.expect(re.compile(rb"(?i:data)")).reply(b"354 go on")
    mock.expect(re.compile(rb"[^.].*|")).at_least(1)
    mock.expect(b".").reply(b"250 ok")
    mock.expect(re.compile(rb"(?i:quit)")).reply(b"221 bye").close()
    assert send_mail(mock.address) == {"eve@example.org": (550, b"who is that?")}


def test_smtplib_when_the_server_is_cut_off_in_the_midst_of_a_reply(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    mock.banner(b"220 mail.example ready").with_faults(ResetPeer(after_bytes=9))
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        smtplib.SMTP(mock.host, mock.port, timeout=5)


def test_smtplib_has_no_patience_with_a_server_that_hangs(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    mock.banner(b"220 ready")
    mock.expect(re.compile(rb"(?i:ehlo .*)")).hang()
    client = smtplib.SMTP(mock.host, mock.port, timeout=0.2)
    with contextlib.closing(client), pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
        client.ehlo()


def test_smtplib_against_a_recording_of_aiosmtpd(serve: Any, tmp_path: Path) -> None:
    from aiosmtpd.handlers import Sink
    from aiosmtpd.smtp import SMTP

    file = tmp_path / "mail.wire"
    server = serve.asyncio(lambda: SMTP(Sink(), hostname="mail.example"), transport="stream")
    with record(server, file, times=False) as recording:
        assert send_mail(recording.address) == {}
    assert "354 End data" in file.read_text()
    with replay(file) as mock:
        assert send_mail(mock.address) == {}


# -- ftplib


def test_ftplib(make_mock_server: Any) -> None:
    control, data = make_mock_server(framing=LINES), make_mock_server()
    high, low = divmod(data.port, 256)
    control.banner(b"220 ready")
    control.expect(re.compile(rb"USER \w+")).reply(b"331 and the password?")
    control.expect(re.compile(rb"PASS .*")).reply(b"230 in")
    control.expect(b"TYPE I").reply(b"200 ok")
    control.expect(b"PASV").reply(b"227 go to (127,0,0,1,%d,%d)" % (high, low))
    control.expect(b"RETR file").reply(b"150 here it comes").reply(b"226 that was it", delay=0.01)
    control.expect(b"QUIT").reply(b"221 bye").close()
    data.banner(b"x" * 100_000, pieces=7).close()
    received = io.BytesIO()
    with ftplib.FTP(timeout=5) as client:
        client.connect(control.host, control.port)
        client.login("ann", "secret")
        assert client.retrbinary("RETR file", received.write).startswith("226")
    assert received.getvalue() == b"x" * 100_000


def test_ftplib_sees_that_data_were_cut_off(make_mock_server: Any) -> None:
    control, data = make_mock_server(framing=LINES), make_mock_server()
    high, low = divmod(data.port, 256)
    control.banner(b"220 ready")
    control.expect(b"TYPE I").reply(b"200 ok")
    control.expect(b"PASV").reply(b"227 go to (127,0,0,1,%d,%d)" % (high, low))
    control.expect(b"RETR file").optional().reply(b"150 here it comes")
    control.otherwise().reply(b"221 bye")
    data.banner(b"x" * 100_000).with_faults(ResetPeer(after_bytes=1000))
    with ftplib.FTP(timeout=5) as client:
        client.connect(control.host, control.port)
        with pytest.raises(ConnectionResetError):
            client.retrbinary("RETR file", lambda data: None)


# -- http.client and curl


def web(script: Script, body: bytes = b"hello\n") -> Any:
    """A page; the step that says it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    return script.expect(re.compile(rb"(?s:GET /(?P<path>\S*) HTTP/1\.1\r\n.*?\r\n\r\n)")).reply(head + body)


def get(address: Any) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(address[0], address[1], timeout=5)) as connection:
        connection.request("GET", "/page")
        return connection.getresponse().read()


def test_http_client(mock_server: MockServer) -> None:
    web(mock_server).close()
    assert get(mock_server.address) == b"hello\n"
    assert mock_server.requests[0]["path"] == b"page"


@pytest.mark.servertest_mock(tls=True)
def test_http_client_over_tls(mock_server: MockServer) -> None:
    web(mock_server).close()
    context = mock_server.client_context()
    with contextlib.closing(
        http.client.HTTPSConnection(mock_server.host, mock_server.port, timeout=5, context=context)
    ) as connection:
        connection.request("GET", "/page")
        assert connection.getresponse().read() == b"hello\n"


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda step: step.with_faults("limit_data:60"), http.client.IncompleteRead),
        (lambda step: step.with_faults(ResetPeer(after_bytes=60)), ConnectionResetError),
        (lambda step: step.with_faults("empty_reply"), http.client.RemoteDisconnected),
    ],
)
def test_http_client_and_faults_on_the_reply(
    mock_server: MockServer, spoil: Any, error: type[Exception]
) -> None:
    spoil(web(mock_server))
    mock_server.expect_eof().optional()
    with pytest.raises(error):
        get(mock_server.address)
    mock_server.forgive()


def test_http_client_against_a_recording_of_http_server(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("recorded\n")
    file = tmp_path / "web.wire"

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, *arguments: Any) -> None:
            pass

    # The address is another one each time, and the client says it.
    hosts = [rb"Host: (?P<secret>[^\r\n]*)"]
    with (
        launch(http.server.ThreadingHTTPServer, Handler) as server,
        record(server, file, scrub=hosts) as recording,
    ):
        assert get(recording.address) == b"recorded\n"
    for match in ("strict", "requests"):
        with replay(file, match=match, scrub=hosts) as mock:
            assert get(mock.address) == b"recorded\n"


def test_http_client_and_garbage(mock_server: MockServer) -> None:
    mock_server.expect(re.compile(rb"(?s:GET .*\r\n\r\n)")).garbage(40).close()
    with pytest.raises(http.client.BadStatusLine):
        get(mock_server.address)


curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def run_curl(address: Any, *words: str) -> subprocess.CompletedProcess[bytes]:
    url = f"http://{address[0]}:{address[1]}/page"
    return subprocess.run(
        ["curl", "-sS", "-q", "--max-time", "5", *words, url], capture_output=True, timeout=20, check=False
    )


@curl
def test_curl(mock_server: MockServer) -> None:
    web(mock_server, b"x" * 10_000).with_faults(Slicer(average_size=100) | Latency(0.01)).close()
    assert run_curl(mock_server.address).stdout == b"x" * 10_000


@curl
@pytest.mark.parametrize(
    ("faults", "status"),
    [("limit_data:60", 18), (ResetPeer(after_bytes=60), 56), ("empty_reply", 52)],
)
def test_curl_and_faults_on_the_reply(mock_server: MockServer, faults: Any, status: int) -> None:
    web(mock_server).with_faults(faults)
    assert run_curl(mock_server.address).returncode == status
    mock_server.forgive()


@curl
def test_curl_comes_again(mock_server: MockServer) -> None:
    mock_server.on(connection=1).expect(re.compile(rb"(?s:GET .*\r\n\r\n)")).reply(
        b"HTTP/1.1 503 Not now\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ).close()
    web(mock_server).close()
    result = run_curl(mock_server.address, "--retry", "2", "--retry-delay", "0")
    assert result.stdout == b"hello\n"
    assert len(mock_server.conversations) == 2


@curl
def test_curl_tires_of_a_slow_server(mock_server: MockServer) -> None:
    mock_server.expect(re.compile(rb"(?s:GET .*\r\n\r\n)")).reply(b"HTTP/1.1 200 OK\r\n" * 100, slowly=10)
    assert run_curl(mock_server.address, "--max-time", "0.3").returncode == 28


# -- imaplib


def post(script: Script) -> None:
    """A mailbox with three mails, whose server repeats the tag of each command."""
    script.banner(b"* OK ready")
    script.expect(re.compile(rb"(?P<tag>\w+) CAPABILITY")).reply(b"* CAPABILITY IMAP4rev1").reply(
        Template(b"{tag} OK done")
    )
    script.expect(re.compile(rb"(?P<tag>\w+) LOGIN ann .*")).reply(Template(b"{tag} OK in"))
    script.expect(re.compile(rb"(?P<tag>\w+) SELECT INBOX")).reply(b"* 3 EXISTS").reply(
        Template(b"{tag} OK [READ-WRITE] done")
    )
    script.expect(re.compile(rb"(?P<tag>\w+) LOGOUT")).reply(b"* BYE").reply(
        Template(b"{tag} OK done")
    ).close()


def test_imaplib(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    post(mock)
    with imaplib.IMAP4(mock.host, mock.port, timeout=5) as client:
        assert client.login("ann", "secret")[0] == "OK"
        assert client.select() == ("OK", [b"3"])
    mock.wait_for(finished=True)


def test_imaplib_takes_a_reply_that_drips(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    post(mock)
    mock.steps[3].with_faults(Slicer(average_size=1) | Latency(0.005))
    with imaplib.IMAP4(mock.host, mock.port, timeout=5) as client:
        assert client.login("ann", "secret")[0] == "OK"
        assert client.select() == ("OK", [b"3"])
    mock.wait_for(finished=True)


def test_imaplib_has_no_patience_with_a_server_that_hangs(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    mock.banner(b"* OK ready")
    mock.expect(re.compile(rb"(?P<tag>\w+) CAPABILITY")).reply(b"* CAPABILITY IMAP4rev1").hang()
    with pytest.raises(TimeoutError):
        imaplib.IMAP4(mock.host, mock.port, timeout=0.2)


def test_imaplib_when_the_connection_breaks_at_login(make_mock_server: Any) -> None:
    mock = make_mock_server(framing=LINES)
    mock.banner(b"* OK ready")
    mock.expect(re.compile(rb"(?P<tag>\w+) CAPABILITY")).reply(b"* CAPABILITY IMAP4rev1").reply(
        Template(b"{tag} OK done")
    )
    mock.expect(re.compile(rb"\w+ LOGIN .*")).reset()
    client = imaplib.IMAP4(mock.host, mock.port, timeout=5)
    with pytest.raises((imaplib.IMAP4.abort, ConnectionResetError)):
        client.login("ann", "secret")
    with contextlib.suppress(OSError, imaplib.IMAP4.error):
        client.shutdown()


# -- redis-py


def store(address: Any, **options: Any) -> redis.Redis:
    return redis.Redis(host=address[0], port=address[1], socket_timeout=2, **{"protocol": 2, **options})


def talk(address: Any) -> tuple[Any, ...]:
    with store(address) as client:
        return client.set("a", 1), client.incr("a"), client.get("a"), client.get("nothing")


def test_redis_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "redis.wire"
    expected = (True, 2, b"2", None)
    with launch(KeyValueStore) as server:
        assert talk(server.address) == expected
        with record(server, file) as recording:
            server.server.__dict__["servertest_store"].values.clear()
            assert talk(recording.address) == expected
    for match in ("strict", "requests"):
        with replay(file, match=match) as mock:
            assert talk(mock.address) == expected


def resp(*words: bytes) -> bytes:
    """A command as redis-py sends it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def introduces(script: Script) -> None:
    """redis-py tells its name and version first."""
    script.expect(
        re.compile(rb"(?s:\*4\r\n\$6\r\nCLIENT\r\n\$7\r\nSETINFO\r\n.*?\r\n.*?\r\n.*?\r\n.*?\r\n)")
    ).reply(b"+OK\r\n").forever()


def test_redis_comes_again_after_a_reset(mock_server: MockServer) -> None:
    first = mock_server.on(connection=1)
    introduces(first)
    first.expect(resp(b"GET", b"a")).reply(b"$5\r\nhello\r\n").with_faults(ResetPeer(after_bytes=6))
    introduces(mock_server)
    mock_server.expect(resp(b"GET", b"a")).reply(b"$5\r\nhello\r\n", pieces=4)
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
    with store(mock_server.address, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
        assert client.get("a") == b"hello"
    assert [conversation.number for conversation in mock_server.conversations] == [1, 2]


def test_redis_refuses_garbage(mock_server: MockServer) -> None:
    introduces(mock_server)
    mock_server.expect(resp(b"PING")).reply(b"?what\r\n")
    with store(mock_server.address, retry=None) as client, pytest.raises(redis.RedisError):
        client.ping()


def test_a_message_that_is_pushed(mock_server: MockServer) -> None:
    introduces(mock_server)
    mock_server.expect(resp(b"SUBSCRIBE", b"news")).reply(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
    with store(mock_server.address) as client, client.pubsub() as channel:
        channel.subscribe("news")
        assert (channel.get_message(timeout=2) or {})["type"] == "subscribe"
        threading.Thread(
            target=mock_server.push, args=(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n",)
        ).start()
        assert (channel.get_message(timeout=2) or {})["data"] == b"hi"


# -- dig


def resolve(request: Request) -> bytes:
    reply = DNSRecord.parse(request.data).reply()
    reply.add_answer(RR(reply.q.qname, rdata=A("192.0.2.7"), ttl=60))
    return bytes(reply.pack())


def dig(mock: MockServer, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["dig", f"@{mock.host}", "-p", str(mock.port), "+short", "+time=1", *words, "example.org"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.skipif(shutil.which("dig") is None, reason="there is no dig here")
@pytest.mark.servertest_mock("udp")
class TestDig:
    def test_it(self, mock_server: MockServer) -> None:
        mock_server.expect(lambda data: DNSRecord.parse(data).q.qname == "example.org").reply(resolve)
        assert dig(mock_server, "+tries=1").stdout == "192.0.2.7\n"

    def test_it_asks_again_when_the_answer_is_lost(self, mock_server: MockServer) -> None:
        mock_server.on(connection=1).expect(lambda data: True).reply(resolve).with_faults("loss:1")
        mock_server.expect(lambda data: True).reply(resolve)
        assert dig(mock_server, "+tries=2").stdout.endswith("192.0.2.7\n")

    @pytest.mark.servertest_mock(framing=LengthPrefixed(2))
    def test_over_tcp_it_has_a_length_before_each_message(self, mock_server: MockServer) -> None:
        asked = mock_server.expect(lambda data: DNSRecord.parse(data).q.qname == "example.org")
        asked.reply(resolve).with_faults(Slicer(average_size=1))
        mock_server.expect_eof().optional()
        assert dig(mock_server, "+tcp", "+tries=1").stdout == "192.0.2.7\n"

    @pytest.mark.servertest_mock
    def test_over_tcp_a_wrong_length_is_waited_for_in_vain(self, mock_server: MockServer) -> None:
        asked = mock_server.expect(Frame(lambda data: True, LengthPrefixed(2)))
        asked.reply(lambda request: b"\xff\xff" + resolve(request)).close()
        result = dig(mock_server, "+tcp", "+tries=1")
        assert "192.0.2.7" not in result.stdout
        assert result.returncode == 9

    def test_it_minds_an_answer_to_another_question(self, mock_server: MockServer) -> None:
        mock_server.expect(lambda data: True).reply(lambda request: b"\0\0" + resolve(request)[2:]).reply(
            resolve, delay=0.05
        )
        result = dig(mock_server, "+tries=1")
        assert result.stdout.endswith("192.0.2.7\n")
        assert "ID mismatch" in result.stdout + result.stderr
