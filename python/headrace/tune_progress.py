"""What a person sees of a fine-tuning: on a terminal one line that moves, elsewhere a line now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, TextIO

EVERY_SECONDS = 10.0  # between two lines where there is no terminal
BAR = 24


def duration(seconds: float) -> str:
    """``"8 s"``, ``"3 min 20 s"``, ``"2 h 05 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Says where a training stands. ``quiet``: nothing but its result."""

    def __init__(self, to: TextIO, quiet: bool = False) -> None:
        self._to, self._quiet = to, quiet
        self.run: str | None = None  # its id, once it has begun
        self._terminal = to.isatty() and os.environ.get("TERM") != "dumb"
        self._began = time.monotonic()
        self._first_share: float | None = None  # of what earlier lives did
        self._told = -EVERY_SECONDS
        self._moving = False
        self._validated: float | None = None

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self._quiet:
            self.stop()
            print(text, file=self._to, flush=True)

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The configuration with all of its defaults, and what is learned by what."""
        for name, value in facts.items():
            self.say(f"  {name:<14} {value}")
        self._began = time.monotonic()

    def step(self, number: int, share: float, figures: Mapping[str, float]) -> None:
        """After a step: ``share`` of the training is done."""
        if self._quiet or not figures:
            return
        now = time.monotonic()
        if self._first_share is None:
            self._first_share = share
            self._began = now
        spent, done = now - self._began, share - self._first_share
        left = f"{duration(spent * (1 - share) / done)} left" if done > 0 else ""
        line = f"step {number + 1}  loss {figures['loss']:.4f}  {figures['tokens_per_second']:,.0f} tok/s  {left}"
        if self._terminal:
            filled = round(BAR * share)
            bar = "█" * filled + "░" * (BAR - filled)
            print(f"\r\x1b[K{bar} {100 * share:3.0f} %  {line}", end="", file=self._to, flush=True)
            self._moving = True
        elif now - self._told >= EVERY_SECONDS:
            self._told = now
            print(f"{100 * share:3.0f} %  {line}", file=self._to, flush=True)

    def validated(self, loss: float | None, step: int) -> None:
        """The loss over the rows that were kept back."""
        if loss is not None:
            change = "" if self._validated is None else f" ({loss - self._validated:+.4f})"
            self.say(f"validation loss {loss:.4f}{change} after {step} steps")
            self._validated = loss

    def stop(self) -> None:
        """Ends a line that moves."""
        if self._moving:
            print(file=self._to, flush=True)
            self._moving = False

    def result(self, result: Mapping[str, Any]) -> None:
        """What came of it."""
        run = result["run"][:8]
        if name := result["model"]:
            self.say(f"{name} after {result['steps']} steps; the run is {run}")
            self.say(f'headrace run {name} "…" asks it; headrace serve {name.rpartition(":")[0]} serves it')
            return
        self.say(f"{result['name']} after {result['steps']} steps; the run is {run}, which keeps {result['file']}")
        if why := result.get("unregistered"):
            self.say(why)
        self.say(
            f"headrace serve {result['base']} --adapter {result['name']}=FILE serves it; catalog.artifact('{result['sha256'][:12]}…', FILE) fetches it"
        )
