"""Which processes belong together."""

from __future__ import annotations

import os
import select
import time

__all__ = ("group_members", "lasting_members")


def group_members(group: int) -> list[int]:
    """Pids of the processes of a group that run, or could: no zombies. Only Linux tells; elsewhere there are none."""
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return sorted(pid for pid in numbers if _group_and_state(pid) == (group, True))


def _group_and_state(pid: int) -> tuple[int, bool]:
    """The group of a process, and whether it is alive; proc_pid_stat(5), fields 5, 3 and 20.

    A process whose first thread has ended is called a zombie while its other threads still end, and hold its descriptors.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name in parentheses, and may contain both.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, False
    return int(fields[2]), fields[0] not in (b"Z", b"X") or int(fields[17]) > 1


def lasting_members(group: int, seconds: float) -> list[int]:
    """Pids of the processes of a group, its leader apart, that are still there after so many seconds.

    A process that ends gives its descriptors back some time before it ceases to be listed as alive, so one look at
    the list would accuse those that are about to go.
    """
    end = time.monotonic() + seconds
    members = [pid for pid in group_members(group) if pid != group]
    for pid in members:
        _await_end(pid, end - time.monotonic())
    return [pid for pid in group_members(group) if pid in members]


def _await_end(pid: int, seconds: float) -> None:
    """Wait until a process has ended, whoever's child it is; where the system cannot tell (before Linux 5.3), for nothing."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(max(seconds, 0.0) * 1000)
    finally:
        os.close(fd)
