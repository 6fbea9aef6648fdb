from __future__ import annotations

import gc
import os
import stat
import tempfile
from pathlib import Path

import pytest

from servertest._support import AddressError, SocketDirectory, UsageError, check_path, path_limit


def test_the_directory_is_private() -> None:
    with SocketDirectory() as directory:
        mode = stat.S_IMODE(os.stat(directory.directory).st_mode)
        assert mode == 0o700


def test_paths_are_new_each_time_and_nothing_is_there() -> None:
    with SocketDirectory() as directory:
        paths = [directory.path("web") for _ in range(3)]
        assert len(set(paths)) == 3
        assert not any(os.path.exists(path) for path in paths)
        assert all(os.path.basename(path).startswith("web") for path in paths)


@pytest.mark.parametrize("hint", ["x" * 200, "ü" * 200])
def test_a_long_hint_is_cut_so_that_the_path_fits(hint: str) -> None:
    with SocketDirectory() as directory:
        path = directory.path(hint)
        assert path_limit() - 1 <= len(os.fsencode(path)) <= path_limit()
        check_path(path)


@pytest.mark.parametrize("hint", ["a/b", "a\0b"])
def test_a_hint_is_no_path(hint: str) -> None:
    with SocketDirectory() as directory, pytest.raises(UsageError, match="leave out the slash"):
        directory.path(hint)


def test_a_long_temporary_directory_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with SocketDirectory() as directory:
        assert not directory.directory.startswith(str(deep))


def test_a_short_temporary_directory_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with SocketDirectory() as outer:
        monkeypatch.setattr(tempfile, "tempdir", outer.directory)
        monkeypatch.setattr(os.path, "isdir", lambda path: path == outer.directory)
        inner = SocketDirectory()
        monkeypatch.undo()
        with inner:
            assert os.path.dirname(inner.directory) == outer.directory


def test_closing_removes_whatever_is_in_it() -> None:
    directory = SocketDirectory()
    Path(directory.path()).write_text("left behind")
    directory.close()
    assert not os.path.exists(directory.directory)
    assert directory.closed
    directory.close()
    with pytest.raises(UsageError, match="is closed"):
        directory.path()
    assert repr(directory) == f"<SocketDirectory {directory.directory} closed>"


@pytest.mark.parametrize("end", ["close", "forget"])
def test_another_process_leaves_it_alone(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = SocketDirectory()
    name = directory.directory
    # A forked child holds the same object; the number of the process is all that tells it from its parent.
    monkeypatch.setattr(os, "getpid", lambda: -1)
    if end == "close":
        directory.close()
    else:
        del directory
        gc.collect()
    assert os.path.exists(name)
    os.rmdir(name)


def test_a_forgotten_directory_is_removed_with_a_warning() -> None:
    name = forget_a_directory()
    assert not os.path.exists(name)


def forget_a_directory() -> str:
    directory = SocketDirectory()
    name = directory.directory
    with pytest.warns(ResourceWarning, match="was not closed"):
        directory._finalizer()  # what the garbage collector calls
    return name


def test_the_longest_path_is_allowed() -> None:
    check_path("/" * path_limit())
    check_path(b"\0" + b"x" * path_limit())


@pytest.mark.parametrize("path", ["/" + "x" * 107, b"/" + b"x" * 107, "/" + "ü" * 54, b"\0" + b"x" * 108])
def test_a_longer_one_is_refused_with_its_length_and_the_limit(path: str | bytes) -> None:
    with pytest.raises(AddressError, match=rf"has 10[89] bytes; the limit here is {path_limit()}"):
        check_path(path)


@pytest.mark.parametrize(("path", "reason"), [("", "must not be empty"), ("/a\0b", "NUL")])
def test_what_is_no_path_is_refused(path: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        check_path(path)
