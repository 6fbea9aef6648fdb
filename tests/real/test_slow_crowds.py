"""What a crowd of slow clients does to real servers, and which defence helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from servertest.clients.behaviours import SlowReader
from tests.real._slow_crowds import NGINX, SCENES, Scene, nginx

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed here")


@pytest.mark.parametrize(
    "scene",
    [pytest.param(scene, marks=needs_nginx if scene.server == "nginx" else ()) for scene in SCENES],
    ids=lambda scene: scene.name,
)
def test_a_slow_crowd(serve: Any, tmp_path: Path, scene: Scene) -> None:
    server = scene.put_up(serve, tmp_path)
    # Patient enough for a busy machine: what is never served is not served then either.
    with scene.crowd(server, duration=5.0) as crowd:
        pass
    result = crowd.result
    probes = [probe for probe in result.probes if 1.5 < probe.at < 4]

    assert result.probes[0].served
    if scene.served is True:
        assert [probe.error for probe in probes if not probe.served] == []
        assert probes
    elif scene.served is False:
        assert [probe for probe in probes if probe.served] == []
        assert probes
    else:
        assert any(probe.served for probe in result.probes if 0 < probe.at <= result.seconds)
    if scene.cut_off:
        assert result.cut_off_by_server > 0.2 * result.clients
    else:
        # Those for whom there is no room are reset (by nginx), or wait to be connected.
        assert result.held >= 30


@needs_nginx
@pytest.mark.parametrize(
    ("defence", "cut_off"), [("", 0), ("send_timeout 1s; reset_timedout_connection on;", 20)]
)
def test_nginx_and_slow_readers(serve: Any, tmp_path: Path, defence: str, cut_off: int) -> None:
    from servertest.swarm import swarm

    (tmp_path / "big").write_bytes(b"x" * 5_000_000)
    server = nginx(serve, tmp_path, f"{defence} root {tmp_path}; location = /big {{ }}")
    reader = SlowReader(b"GET /big HTTP/1.0\r\n\r\n", size=5, pause=2, reply_bytes=5_000_000)
    with swarm(server, reader, clients=20, duration=4) as crowd:
        pass

    assert crowd.result.cut_off_by_server == cut_off
    assert crowd.result.held == 20 - cut_off
