"""A swarm through gateways of execnet over ssh: a real client and a real server of OpenSSH, on the loopback interface."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from servertest.clients.behaviours import IdleAfterConnect, SlowWriter
from servertest.swarm import Result, SwarmFailed, profile, swarm
from tests.swarm._servers import sink

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None,
    reason="OpenSSH's server and client are not installed here (Debian: openssh-server)",
)
pytest.importorskip("execnet")

_SERVER = """
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""

_CLIENT = """
Host there nowhere
    HostName 127.0.0.1
    Port {port}
    User {user}
    UserKnownHostsFile {directory}/known
    StrictHostKeyChecking accept-new
    BatchMode yes
    LogLevel ERROR
Host there
    IdentityFile {directory}/client
Host nowhere
    IdentityFile {directory}/host
"""

PROFILE = profile(
    [SlowWriter(b"x" * 60, bytes_per_second=100, chunk=5, variation=4, jitter=1), IdleAfterConnect()],
    clients=21,
    duration=2.5,
    seed="far away",
)


@pytest.fixture
def config(serve: Any, tmp_path: Path) -> Path:
    """ssh's own configuration, for the hosts `there` and, with a key that is not known there, `nowhere`."""
    for name in ("host", "client"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)],
            check=True,
            timeout=30,
        )
    (tmp_path / "server.conf").write_text(_SERVER.format(directory=tmp_path))
    start = f"exec {SSHD} -D -e -f {tmp_path}/server.conf -p {{port}}"
    command = ["sh", "-c", start]
    if os.getuid() == 0 and not Path("/run/sshd").is_dir():
        # Where it runs as root it wants this directory, whatever it is told: it gets one that nobody else sees.
        command = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            f"mount -t tmpfs none /run && mkdir /run/sshd && {start}",
        ]
    server = serve.command(command)
    path = tmp_path / "client.conf"
    path.write_text(_CLIENT.format(directory=tmp_path, port=server.port, user=getpass.getuser()))
    return path


def play(engine: Any = "local", **options: Any) -> Result:
    with sink() as address, swarm(address, PROFILE, engine=engine, options=options) as crowd:
        assert crowd.progress.connections == 21
    return crowd.result


def test_a_swarm_from_other_machines(config: Path) -> None:
    # They have a Python there, and nothing else.
    machine = f"ssh=there//ssh_config={config}//python={sys.executable} -I -S"
    far = play("execnet", gateways=[machine, machine])
    near = play()

    assert far.held == near.held == 21
    assert set(near.columns["sent"]) == {0, 60}
    assert list(far.columns["sent"]) == list(near.columns["sent"])
    assert list(far.columns["role"]) == list(near.columns["role"])


def test_it_can_be_stopped(config: Path) -> None:
    with sink() as address:
        crowd = swarm(
            address,
            PROFILE,
            duration=60,
            engine="execnet",
            options={"gateways": [f"ssh=there//ssh_config={config}//python={sys.executable}"]},
        ).start()
        crowd.wait_begun()
        assert crowd.stop().held == 21
        assert crowd.result.stopped
        crowd.close()


@pytest.mark.parametrize(
    ("host", "python", "said"),
    [("nowhere", sys.executable, "cannot be opened: nowhere"), ("there", "/no/python", "cannot be opened: ")],
    ids=["a key that is not known", "no Python"],
)
def test_what_does_not_work_is_told(config: Path, host: str, python: str, said: str) -> None:
    machine = f"ssh={host}//ssh_config={config}//python={python}"
    with pytest.raises(SwarmFailed, match=said):
        swarm(("127.0.0.1", 1), PROFILE, engine="execnet", options={"gateways": [machine]}).start()
