"""Certificates and keys in files, for programs that take nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, final

from .._support import UsageError
from ._credentials import ClientCredential, ServerCredential
from ._private import write_private

__all__ = ("CertificateFiles",)


@final
@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the files are; all are PEM, with mode 0600. As a context manager, removes them at the end.

    Attributes:
        directory: What they are in.
        authority: The certificate to be trusted (``--cacert``, ``-CAfile``, ``ssl_ca``).
        certificate: The server's certificate, followed by the intermediates that it sends along.
        key: The server's private key, not encrypted.
        client_certificate: A client's certificate.
        client_key: The client's private key, not encrypted.
    """

    directory: Path
    authority: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path
    _removal: Callable[[], object] = field(repr=False, compare=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the files, and their directory if it was made for them. May be called again."""
        self._removal()


def write_certificate_files(
    owner: object,
    directory: str | os.PathLike[str] | None,
    server: ServerCredential,
    client: ClientCredential,
) -> CertificateFiles:
    """Write all of them or none; see `Authority.write_files`. They do not outlive their owner, nor the process."""
    place = Path(tempfile.mkdtemp(prefix="servertest-") if directory is None else directory)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    written: list[Path] = []
    removal = weakref.finalize(owner, _remove, os.getpid(), written, place if directory is None else None)
    names = ("authority.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem")
    authority, certificate, key, client_certificate, client_key = (place / name for name in names)
    try:
        _write(written, authority, server.trusted)
        _write(written, certificate, server.certificate)
        _write(written, key, server.private_key)
        _write(written, client_certificate, client.certificate)
        _write(written, client_key, client.private_key)
    except BaseException:
        removal()
        raise
    return CertificateFiles(place, authority, certificate, key, client_certificate, client_key, removal)


def _write(written: list[Path], path: Path, data: bytes) -> None:
    try:
        written.append(write_private(path, data))
    except FileExistsError:
        raise UsageError(
            f"{path} exists already, and keys are not written over what is there: give another directory, or none"
        ) from None


def _remove(maker: int, written: list[Path], directory: Path | None) -> None:
    if os.getpid() != maker:  # a forked child ends: the files are its parent's
        return
    for path in written:
        path.unlink(missing_ok=True)
    if directory is not None and directory.exists():
        shutil.rmtree(directory)
