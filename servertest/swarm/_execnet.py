"""The engine for several machines: the same source, the same profile, and a share of the clients for each."""

from __future__ import annotations

import contextlib
import io
import json
import queue
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ._local import SwarmFailed, package_root
from ._merging import Merging

if TYPE_CHECKING:
    from ._job import Job

__all__ = ("ExecnetRunner", "packaged")

_GRACE = 5.0
"""Seconds that a gateway gets to end by itself."""

_OPENING = 30.0
"""Seconds that a gateway may take to open: ssh may have to ask for a passphrase."""


class ExecnetRunner:
    """Has a job played through gateways of execnet. Nothing but Python 3.11 or newer is needed at the far side.

    Args:
        job: What to do.
        gateways: Specs of execnet, one for each process, such as ``popen`` or ``ssh=host//python=python3``.

    Raises:
        UsageError: execnet is not installed, or there is no gateway.
        SwarmFailed: A gateway cannot be opened.
    """

    name = "execnet"

    def __init__(self, job: Job, *, gateways: Sequence[str] = ("popen", "popen")) -> None:
        if util.find_spec("execnet") is None:
            raise UsageError("the engine 'execnet' needs execnet: install servertest[load]")
        if isinstance(gateways, str) or not gateways or not all(isinstance(each, str) for each in gateways):
            raise UsageError('gateways is a list of specs, such as ["popen", "ssh=host//python=python3"]')
        import execnet

        self._children: list[subprocess.Popen[bytes]] = []
        self._group = execnet.Group(execmodel=_model(self._children))
        self._queue: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
        self._channels: list[Any] = []
        self._merging = Merging(len(gateways))
        code = (Path(__file__).parent / "far" / "gateway.py").read_text(encoding="utf-8")
        try:
            # All are open before the first one begins: they begin together.
            for number, spec in enumerate(gateways):
                self._open(number, spec, code)
            package = packaged()
            for channel in self._channels:
                channel.send(package)
            for number, channel in enumerate(self._channels):
                share = {**job.as_dict(), "first": number + 1, "step": len(gateways)}
                channel.send(json.dumps(share))
        except BaseException:
            self.close()
            raise

    def _open(self, number: int, spec: str, code: str) -> None:
        try:
            with self._not_longer_than(_OPENING) as expired:
                channel = self._group.makegateway(spec).remote_exec(code)
        except Exception as error:
            # execnet says it in many ways, and not always in words.
            if expired:
                reason = f"it took longer than {_OPENING:g} s"
            elif isinstance(error, BrokenPipeError | EOFError):
                reason = "what was started for it has ended"
            else:
                reason = str(error) or type(error).__name__
            raise SwarmFailed(f"the gateway {spec!r} cannot be opened: {reason}") from error
        self._channels.append(channel)
        channel.setcallback(lambda item: self._queue.put((number, item)), endmarker=None)

    @contextlib.contextmanager
    def _not_longer_than(self, seconds: float) -> Iterator[list[bool]]:
        """End the child process whose gateway does not open: execnet itself would wait for ever. Gives what tells that it was ended."""
        expired: list[bool] = []
        before = len(self._children)

        def give_up() -> None:
            expired.append(True)
            for child in self._children[before:]:
                child.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()
            timer.join()

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """What they have said, put together; waits for something, at most so long.

        Raises:
            SwarmFailed: One of them has ended without a result.
        """
        until = time.monotonic() + seconds
        while True:
            try:
                number, text = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return []
            if found := self._hear(number, text):
                return found

    def _hear(self, number: int, text: str | None) -> list[dict[str, Any]]:
        if text is None:
            if self._merging.has_result(number):
                return []
            raise SwarmFailed(f"gateway {number + 1} has ended without a result{self._why(number)}")
        return self._merging.hear(number, json.loads(text))

    def _why(self, number: int) -> str:
        try:
            self._channels[number].waitclose(_GRACE)
        except Exception as error:  # noqa: BLE001 - whatever it says is what there is to say
            return f": {error}"
        return ""

    def stop(self) -> None:
        """Have them all end now."""
        for channel in self._channels:
            with contextlib.suppress(OSError):
                channel.send("stop")

    def close(self) -> None:
        """End them, by force if need be."""
        self._group.terminate(timeout=_GRACE)
        for child in self._children:
            if child.poll() is None:  # its gateway has never opened
                child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _model(children: list[subprocess.Popen[bytes]]) -> Any:
    """How execnet works at this side: as it does usually, and its child processes are written down."""
    from execnet.gateway_base import ThreadExecModel

    class Started:
        PIPE = subprocess.PIPE

        @staticmethod
        def Popen(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
            # Ctrl-C in a terminal is for us alone: the results are to be kept. ssh may go on asking its questions there.
            with _interrupts_held_back():
                children.append(subprocess.Popen(*args, **options))  # noqa: S603 - what execnet starts
            return children[-1]

    class Model(ThreadExecModel):
        subprocess = Started

    return Model()


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Child processes that are started in the block will never be told of SIGINT: they inherit the mask (sigprocmask(2))."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def packaged() -> bytes:
    """The source of this package, as a zip file."""
    root = Path(package_root())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted((root / "servertest").rglob("*.py")):
            file.write(path, path.relative_to(root))
    return out.getvalue()
