"""A selector over epoll(7), whose cost does not grow with the number of connections that are idle."""

from __future__ import annotations

import select
import selectors
from types import MappingProxyType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ("EpollSelector",)

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE

#: Events that are taken at a time. What more there is comes at the next turn; in between, new connections have theirs.
_AT_A_TIME = 256


class EpollSelector(selectors.BaseSelector):
    """epoll(7) behind the selectors interface, with as little between as the interface allows.

    What is registered is what the kernel says: a descriptor that was closed without unregister() may be registered again when its number has
    come to somebody else.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd < 0:
            raise ValueError(f"Invalid file descriptor: {fd}")
        try:
            self._epoll.register(fd, _mask(events))
        except FileExistsError:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered") from None
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = self._fd_of(fileobj)
        if fd not in self._keys:
            raise KeyError(f"{fileobj!r} is not registered")
        self._epoll.modify(fd, _mask(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        fd = self._fd_of(fileobj)
        try:
            key = self._keys.pop(fd)
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # it is closed, which has taken it out
        return key

    def _fd_of(self, fileobj: Any) -> int:
        if isinstance(fileobj, int):
            return fileobj
        # By identity: the object may have been closed since, and then its fileno() is gone.
        return next((fd for fd, key in self._keys.items() if key.fileobj is fileobj), -1)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = []
        keys, in_only = self._keys, select.EPOLLIN
        for fd, event in self._epoll.poll(timeout, _AT_A_TIME):
            key = keys.get(fd)
            if key is None:
                continue  # closed without unregister(), while another process holds a copy
            if event == in_only:
                ready.append((key, _READ))  # the kernel reports it to those who asked
            else:
                # Errors and hang-ups count as both, as they do in the standard selectors.
                mask = (_READ if event & ~select.EPOLLOUT else 0) | (_WRITE if event & ~in_only else 0)
                ready.append((key, mask & key.events))
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """By descriptor. It shows what is registered at any time, and costs nothing."""
        return MappingProxyType(self._keys)

    def fileno(self) -> int:
        """The descriptor of the epoll set."""
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()
        self._keys.clear()


def _mask(events: int) -> int:
    return (select.EPOLLIN if events & _READ else 0) | (select.EPOLLOUT if events & _WRITE else 0)
