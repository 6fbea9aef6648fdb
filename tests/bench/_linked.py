"""A link under measurement: ``python -m tests.bench._linked JSON``. Says where it listens, and lives until it is killed.

The JSON names the upstream's host and port, the faults as text, whether to record, and after how many seconds to end anyway.
"""

from __future__ import annotations

import json
import signal
import sys

from servertest.proxy import link
from tests.bench._server import raise_descriptor_limit

if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    signal.alarm(spec["limit"])
    raise_descriptor_limit()
    made = link(tuple(spec["upstream"]), spec["faults"], transcript=spec["record"], seed=1)
    print(json.dumps(made.address), flush=True)
    signal.pause()
