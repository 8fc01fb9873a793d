"""Training frameworks, which are imported only where they are used, and the run that their callbacks write to."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from headrace import random_states, rank_exchange, runs, state_tree
from headrace.errors import HeadraceError
from headrace.runs import Run


def load(*names: str, package: str, for_what: str) -> Any:
    """The first of these modules that the program has imported, else the first that is installed.

    Raises:
        ImportError: none is installed; says what to install.
    """
    failure: ImportError | None = None
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            failure = failure or error
    raise ImportError(
        f"{for_what} needs {names[0]}, which cannot be imported ({failure}): pip install {package}"
    ) from failure


class Generators:
    """Each rank's generators of random numbers (Python's, numpy's, torch's), for checkpoints of frameworks that do not keep them."""

    def __init__(self) -> None:
        self._text: str | None = None

    def state(self) -> list[str]:
        """Where they stand, by rank. All ranks ask together."""
        ranks = rank_exchange.Exchange(alone=True)
        return ranks.all(state_tree.to_text(random_states.capture(ranks.world == 1)))

    def load(self, state: list[str] | None) -> None:
        """What ``restore`` will set."""
        rank = rank_exchange.Exchange(alone=True).rank
        self._text = state[rank] if state and rank < len(state) else None

    def restore(self) -> None:
        """Sets them, once after each ``load``."""
        if self._text is not None:
            random_states.restore(state_tree.of_text(self._text))
            self._text = None


def run_of(given: Run | None, name: str | None = None, identity: str | None = None, **options: Any) -> Run:
    """The run that was given, else the one that the program is in, else a new one, or the next life of the one with this id."""
    if given is not None:
        return given
    return runs.current_run() or runs.run(name, id=identity, **options)


def configure(run: Run, values: Mapping[str, Any]) -> None:
    """Adds to the run's config what its program does not say itself. What an earlier life said may have changed."""
    for key, value in values.items():
        if key not in run.config._said():
            run.config[key] = value


def use(run: Run, stream: Any) -> None:
    """Notes the stream among the run's inputs, if it is one that can be noted."""
    if stream is not None and hasattr(stream, "_as_input"):
        run.use(stream)


def came_from(run: Run, earlier: Any) -> None:
    """Notes the run whose checkpoint was loaded, if it is another one."""
    if isinstance(earlier, str) and earlier and earlier != run.id:
        try:
            run.use(f"run:{earlier}")
        except HeadraceError:
            return
