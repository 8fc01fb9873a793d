"""The peak of this process's anonymous memory, sampled from /proc while something runs."""

from __future__ import annotations

import pathlib
import threading


class PeakMemory:
    """``with PeakMemory() as memory: …``; afterwards ``memory.kilobytes`` is the peak."""

    def __init__(self) -> None:
        self.kilobytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            for line in pathlib.Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.kilobytes = max(self.kilobytes, int(line.split()[1]))
            if self._done.wait(0.02):
                return
