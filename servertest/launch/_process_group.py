"""Which processes belong together."""

from __future__ import annotations

import os

__all__ = ("group_members",)


def group_members(group: int) -> list[int]:
    """Pids of the processes of a group that run, or could: no zombies. Only Linux tells; elsewhere there are none."""
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    return sorted(pid for pid in numbers if _group_and_state(pid) == (group, True))


def _group_and_state(pid: int) -> tuple[int, bool]:
    """The group of a process, and whether it is alive; proc_pid_stat(5), fields 5 and 3."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the program's name in parentheses, and may contain both.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, False
    return int(fields[2]), fields[0] not in (b"Z", b"X")
