"""The child process of the local engine: a job comes in as JSON, reports go out as lines of it."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

from .._support import ServertestError

__all__ = ("main",)


def main() -> int:
    """Read a job from standard input, play it, and end when that is closed or says anything more."""
    # Nothing here is made in circles, and a collection would hold all clients up.
    gc.disable()
    lines = os.fdopen(os.dup(0), "rb", buffering=0)
    text = lines.readline()
    if not text:
        return 0
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints does not disturb the reports
    from ._engine import Engine
    from ._job import Job

    def tell(report: dict[str, Any]) -> None:
        _write(out, report)

    try:
        result = Engine(Job.from_dict(json.loads(text)), tell, stop_fd=0).run()
    except (ServertestError, OSError) as error:
        _write(out, {"kind": "error", "type": type(error).__name__, "message": str(error)})
        return 1
    _write(out, result)
    return 0


def _write(fd: int, report: dict[str, Any]) -> None:
    data = json.dumps(report, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    sys.exit(main())
