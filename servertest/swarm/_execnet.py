"""The engine for several machines: the same source, the same profile, and a share of the clients for each."""

from __future__ import annotations

import contextlib
import io
import json
import queue
import time
import zipfile
from collections.abc import Sequence
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

_FAR_SIDE = """\
import gc, io, json, os, sys, tempfile, zipfile

package, job = channel.receive(), channel.receive()
gc.disable()
with tempfile.TemporaryDirectory() as directory:
    zipfile.ZipFile(io.BytesIO(package)).extractall(directory)
    sys.path.insert(0, directory)
    for name in [name for name in sys.modules if name.partition(".")[0] == "servertest"]:
        del sys.modules[name]
    from servertest.swarm._engine import Engine
    from servertest.swarm._job import Job

    stopped, stop = os.pipe()
    channel.setcallback(lambda item: os.write(stop, b"."))
    tell = lambda report: channel.send(json.dumps(report))
    try:
        tell(Engine(Job.from_dict(json.loads(job)), tell, stop_fd=stopped).run())
    except Exception as error:
        tell({"kind": "error", "type": type(error).__name__, "message": str(error)})
    sys.path.remove(directory)
"""


class ExecnetRunner:
    """Has a job played through gateways of execnet. Nothing but Python 3.11 or newer is needed at the far side.

    Args:
        job: What to do.
        gateways: Specs of execnet, one for each process, such as ``popen`` or ``ssh=host//python=python3``.

    Raises:
        UsageError: execnet is not installed, or there is no gateway.
    """

    name = "execnet"

    def __init__(self, job: Job, *, gateways: Sequence[str] = ("popen", "popen")) -> None:
        if util.find_spec("execnet") is None:
            raise UsageError("the engine 'execnet' needs execnet: install servertest[load]")
        if isinstance(gateways, str) or not gateways:
            raise UsageError('gateways is a list of specs, such as ["popen", "ssh=host//python=python3"]')
        import execnet

        self._group = execnet.Group()
        self._queue: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
        self._channels: list[Any] = []
        self._merging = Merging(len(gateways))
        package = packaged()
        try:
            for number, spec in enumerate(gateways):
                self._begin(number, spec, package, job, len(gateways))
        except BaseException:
            self.close()
            raise

    def _begin(self, number: int, spec: str, package: bytes, job: Job, count: int) -> None:
        try:
            channel = self._group.makegateway(spec).remote_exec(_FAR_SIDE)
        except (OSError, ValueError) as error:
            raise SwarmFailed(f"the gateway {spec!r} cannot be opened: {error}") from error
        self._channels.append(channel)
        channel.setcallback(lambda item: self._queue.put((number, item)), endmarker=None)
        channel.send(package)
        channel.send(json.dumps({**job.as_dict(), "first": number + 1, "step": count}))

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


def packaged() -> bytes:
    """The source of this package, as a zip file."""
    root = Path(package_root())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted((root / "servertest").rglob("*.py")):
            file.write(path, path.relative_to(root))
    return out.getvalue()
