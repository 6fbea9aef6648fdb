"""Make the pictures and the table of docs/slow-clients.md: ``python -m tests.real.slow_crowds``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from servertest._pytest import Serve
from servertest.swarm import Result
from tests.real._slow_crowds import NGINX, SCENES, Scene

__all__ = ()

SHOWN = ("pool", "pool-deadline", "nginx", "nginx-timeout", "threading", "threading-deadline")
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def play(scene: Scene) -> Result:
    serve = Serve(10.0)
    with tempfile.TemporaryDirectory() as directory:
        try:
            server = scene.put_up(serve, Path(directory))
            with scene.crowd(server, clients=300, per_second=150, duration=6.0) as crowd:
                pass
        finally:
            serve.close()
    return crowd.result


def main() -> int:
    print("| server | defence | held to the end | cut off | honest clients served |")
    print("|---|---|---|---|---|")
    for scene in SCENES:
        if scene.server == "nginx" and NGINX is None:
            continue
        result = play(scene)
        if scene.name in SHOWN:
            result.write(PICTURES / f"slow-{scene.name}.svg")
        during = [probe for probe in result.probes if 0 <= probe.at <= result.seconds]
        served = sum(probe.served for probe in during)
        print(
            f"| {scene.server} | {scene.defence} | {result.held} | {result.cut_off_by_server} | {served} of {len(during)} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
