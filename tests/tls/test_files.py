"""Keys in memory; and where that cannot be, in files that nobody else can open."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from servertest._support import UsageError
from servertest.tls import Authority, profiles
from servertest.tls._private import readable_path, write_private
from tests._descriptors import new_descriptors, open_descriptors

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="files in memory are Linux's")
NAMES = ["authority.pem", "client-key.pem", "client.pem", "server-key.pem", "server.pem"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go during a test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def lax() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def forbidden(*_: object) -> int:
    raise PermissionError("not in this sandbox")


@needs_linux
def test_no_file_is_touched(temporary: Path, ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux the key goes to OpenSSL through memory."""
    monkeypatch.setattr("servertest.tls._private.write_private", forbidden)
    monkeypatch.setattr(tempfile, "mkdtemp", forbidden)
    ca.server_context()
    assert list(temporary.iterdir()) == []


@needs_linux
def test_the_file_in_memory_is_gone_afterwards() -> None:
    before = open_descriptors()
    with readable_path(b"secret") as path:
        assert path.startswith("/proc/self/fd/")
        assert [Path(path).read_bytes(), Path(path).read_bytes()] == [b"secret", b"secret"]
    assert not new_descriptors(before)


@needs_linux
@pytest.mark.parametrize("lack", ["no such call", "not allowed", "no /proc"])
@pytest.mark.usefixtures("lax")
def test_elsewhere_it_is_a_private_file(
    lack: str, temporary: Path, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lack == "no such call":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif lack == "not allowed":
        monkeypatch.setattr(os, "memfd_create", forbidden)
    else:
        monkeypatch.setattr("servertest.tls._private._descriptor_path", "/nowhere/{}".format)
    with readable_path(b"secret") as name:
        path = Path(name)
        assert path.read_bytes() == b"secret"
        assert path.parent.parent == temporary
        assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert list(temporary.iterdir()) == []
    assert ca.server_context().get_ca_certs() == []
    assert list(temporary.iterdir()) == []


def test_the_private_file_goes_when_loading_fails(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with pytest.raises(ssl.SSLError), readable_path(b"no PEM") as path:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path)
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("lax")
def test_a_private_file_is_never_written_over(tmp_path: Path) -> None:
    path = write_private(tmp_path / "key", b"first")
    assert mode(path) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken in (path, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            write_private(taken, b"second")
    assert path.read_bytes() == b"first"
    assert not (tmp_path / "elsewhere").exists()


def test_a_private_file_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_private(tmp_path / "key", "no bytes")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("lax")
@pytest.mark.parametrize("profile", profiles(), ids=str)
def test_files_on_request(profile: object, temporary: Path, ca: Authority) -> None:
    with ca.write_files(profile=str(profile)) as files:
        assert files.directory.parent == temporary
        assert mode(files.directory) == 0o700
        assert sorted(path.name for path in files.directory.iterdir()) == NAMES
        assert {mode(path) for path in files.directory.iterdir()} == {0o600}
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.authority))
        context.load_cert_chain(files.certificate, files.key)
        context.load_cert_chain(files.client_certificate, files.client_key)
    assert list(temporary.iterdir()) == []
    files.remove()


@pytest.mark.usefixtures("lax")
def test_files_in_a_directory_of_yours(tmp_path: Path, ca: Authority) -> None:
    """Only what was written is removed."""
    place = tmp_path / "deep" / "down"
    files = ca.write_files(place)
    assert mode(place) == 0o700
    (place / "mine").touch()
    files.remove()
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_nothing_is_written_over(tmp_path: Path, ca: Authority) -> None:
    """All files or none."""
    (tmp_path / "server-key.pem").write_text("precious")
    with pytest.raises(UsageError, match=r"server-key\.pem exists already"):
        ca.write_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["server-key.pem"]
    assert (tmp_path / "server-key.pem").read_text() == "precious"


def test_files_go_with_their_authority(temporary: Path) -> None:
    authority = Authority()
    authority.write_files()
    assert len(list(temporary.iterdir())) == 1
    del authority
    assert list(temporary.iterdir()) == []


def test_files_do_not_go_with_a_forked_child(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority()
    authority.write_files()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    del authority
    (directory,) = temporary.iterdir()
    assert len(list(directory.iterdir())) == len(NAMES)


def test_a_directory_that_is_gone_already(temporary: Path, ca: Authority) -> None:
    files = ca.write_files()
    shutil.rmtree(files.directory)
    files.remove()
    assert list(temporary.iterdir()) == []
