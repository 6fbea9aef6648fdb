"""What execnet runs at the far side of a gateway: it is sent this file, then the package, then a job. Nothing is written to a disk there."""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import os
import sys
import zipfile
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ("Carried", "play")


class Carried(MetaPathFinder, InspectLoader):
    """Imports the package from the memory into which it was sent.

    Args:
        package: A zip file with its source.
    """

    def __init__(self, package: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(package)) as file:
            self._sources = {name: file.read(name) for name in file.namelist()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        if self._place(fullname) is None:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """See `importlib.abc.InspectLoader.is_package`."""
        return (self._place(fullname) or "").endswith("/__init__.py")

    def get_source(self, fullname: str) -> str:
        """See `importlib.abc.InspectLoader.get_source`."""
        return self._sources[self._place(fullname) or ""].decode()

    def _place(self, name: str) -> str | None:
        path = name.replace(".", "/")
        return next((each for each in (f"{path}/__init__.py", f"{path}.py") if each in self._sources), None)


def play(channel: Any) -> None:
    """Play a share of the clients, and tell how they fare."""

    def tell(report: dict[str, Any]) -> None:
        channel.send(json.dumps(report))

    package, job = channel.receive(), channel.receive()
    if sys.version_info < (3, 11):  # noqa: UP036 - it is not ours
        # Whoever has sent this cannot know what is there.
        version = ".".join(map(str, sys.version_info[:3]))
        tell(
            {"kind": "error", "type": "", "message": f"{sys.executable} is Python {version}: 3.11 is needed"}
        )
        return
    gc.disable()  # as in the child process of the local engine
    sys.meta_path.insert(0, Carried(package))
    for name in [name for name in sys.modules if name.partition(".")[0] == "servertest"]:
        del sys.modules[name]
    from servertest.swarm._engine import Engine
    from servertest.swarm._job import Job

    stopped, stop = os.pipe()
    channel.setcallback(lambda item: os.write(stop, b"."))
    try:
        tell(Engine(Job.from_dict(json.loads(job)), tell, stop_fd=stopped).run())
    except Exception as error:  # noqa: BLE001 - told to whoever has started all this
        tell({"kind": "error", "type": type(error).__name__, "message": str(error)})


if __name__ == "__channelexec__":
    play(globals()["channel"])
