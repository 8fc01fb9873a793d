"""What a forked child makes afresh: a process's threads, files and connections do not come along."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Generic, TypeVar

from headrace import _native
from headrace.errors import Invalid

T = TypeVar("T")


class Own(Generic[T]):
    """A native object that each process has for itself: made again by `again` in a child."""

    __slots__ = ("_again", "_held", "_pid")

    def __init__(self, held: T, again: Callable[[], T]) -> None:
        self._held = held
        self._again = again
        self._pid = os.getpid()

    def get(self) -> T:
        """This process's."""
        if os.getpid() != self._pid:
            self._held = self._again()
            self._pid = os.getpid()
        return self._held


@functools.lru_cache(64)
def _view(pid: int, location: str, prefix: str, version: int) -> _native.View:
    return _native.reopen_view(location, prefix, version)


def view(address: tuple[str, str, int]) -> _native.View:
    """A snapshot by its address, opened once in this process."""
    return _view(os.getpid(), *address)


def check(pid: int, what: str) -> None:
    """Raises Invalid if `pid` is not this process."""
    if os.getpid() != pid:
        raise Invalid(f"{what} belongs to the process {pid} that began it, and this is a fork; begin one here")
