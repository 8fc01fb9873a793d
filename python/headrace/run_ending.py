"""What becomes of runs that a program leaves open when it ends."""

from __future__ import annotations

import atexit
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from headrace.errors import HeadraceError


class Ending:
    """Ends what a program leaves open, and knows whether it ended with an error."""

    def __init__(self, left_open: Callable[[], Iterable[Any]]) -> None:
        self._open = left_open  # the runs that nobody has finished
        self._error: BaseException | None = None
        self._hook: Any = None
        self._exit: Any = None

    def watch(self) -> None:
        """From the first run on; again and again does no harm."""
        if self._hook is None:
            self._hook = sys.excepthook
            sys.excepthook = self._remember
            self._exit = sys.exit
            sys.exit = self._leave  # type: ignore[assignment]
            atexit.register(self._finish)

    def _remember(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self._error = error
        self._hook(kind, error, trace)

    def _leave(self, status: Any = None) -> None:
        """``sys.exit``, whose code nothing else tells at the program's end."""
        try:
            self._exit(status)
        except SystemExit as error:
            if threading.current_thread() is threading.main_thread():
                self._error = error
            raise

    def _finish(self) -> None:
        error = self._error
        for left in self._open():
            try:
                left.__exit__(None if error is None else type(error), error, None)
            except HeadraceError as failure:
                warnings.warn(f"the end of {left!r} is not kept: {failure}", stacklevel=1)
