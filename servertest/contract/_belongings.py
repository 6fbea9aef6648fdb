"""What a process has, and what its work costs."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
import threading
import time
from collections import Counter

__all__ = ("Belongings", "Meter")

#: Seconds that threads get to end before they count as left behind, all together.
_PARTING = 0.5


class Belongings:
    """The threads, descriptors, children and blocks of memory of this process at one moment."""

    def __init__(self) -> None:
        _settle()
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()
        self._children = _children()
        self._blocks = sys.getallocatedblocks()

    def left(self, times: int) -> tuple[str, ...]:
        """What has come to be since then and stays, of each sort as many as there were requests; what is there only once is no leak.

        Args:
            times: How many requests there were.
        """
        _settle()
        self._let_threads_end()
        threads = sum(thread not in self._threads for thread in threading.enumerate())
        descriptors = Counter(
            _sort(text) for number, text in _descriptors().items() if self._descriptors.get(number) != text
        )
        children = len(_children() - self._children)
        found = [
            ("threads", threads),
            *((f"descriptors of {sort}", count) for sort, count in descriptors.items()),
            ("children", children),
        ]
        return tuple(
            f"{count} {what} after {times} times" for what, count in found if count >= max(2, times * 0.7)
        )

    def growth(self, times: int) -> float:
        """Blocks of memory that have come to be for each request."""
        _settle()
        return (sys.getallocatedblocks() - self._blocks) / times

    def _let_threads_end(self) -> None:
        end = time.perf_counter() + _PARTING
        for thread in threading.enumerate():
            if thread not in self._threads and thread is not threading.current_thread():
                thread.join(max(0.0, end - time.perf_counter()))


def _settle() -> None:
    """Let go of what nobody holds, but the interpreter itself.

    Its cache of methods has some thousands of places, and each keeps the name that was looked up; a name that is made anew for each request, such as
    ``"do_" + command``, takes one place after the other until the cache is full.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if clear is not None:
        clear()
    gc.collect()


def _sort(text: str) -> str:
    """Sockets are all alike; so are files that were deleted."""
    return (
        text.partition(":")[0]
        if ":" in text and not text.startswith("/")
        else "a file that was deleted"
        if text.endswith("(deleted)")
        else text
    )


def _descriptors() -> dict[int, str]:
    """What this process's descriptors refer to; nothing where the system does not tell."""
    found = {}
    for place in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(place):
                with contextlib.suppress(OSError):
                    found[int(name)] = os.readlink(f"{place}/{name}")
            break
    return {number: text for number, text in found.items() if not text.startswith("/proc/")}


def _children() -> set[int]:
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}
    return set()


class Meter:
    """Measures the growth of the address space (what is reserved counts, even if nobody has touched it) and processor time."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        self._peak = _peak()
        self._cpu = time.thread_time()

    def read(self) -> tuple[int, float]:
        """Bytes and seconds since the beginning."""
        return max(0, _peak() - self._peak), time.thread_time() - self._cpu


def _peak() -> int:
    try:
        with open("/proc/self/status") as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
        return int(status["VmPeak"].split()[0]) * 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
