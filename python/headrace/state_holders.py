"""Objects whose states a checkpoint has: what has ``state_dict`` and ``load_state_dict``, dicts, generators of random numbers."""

from __future__ import annotations

from typing import Any

from headrace import random_states
from headrace.errors import Invalid


def unwrapped(holder: Any) -> Any:
    """A model without what is wrapped around it for several devices or for speed, so that it fits one that is wrapped otherwise."""
    while True:
        if type(holder).__name__ in ("DistributedDataParallel", "DataParallel") and hasattr(holder, "module"):
            holder = holder.module
        elif hasattr(holder, "_orig_mod"):  # torch.compile's
            holder = holder._orig_mod
        else:
            return holder


def check(holder: Any, name: str) -> None:
    """Whether it has a state.

    Raises:
        Invalid: it has none.
    """
    holder = unwrapped(holder)
    if hasattr(holder, "state_dict") and hasattr(holder, "load_state_dict"):
        return
    if not isinstance(holder, dict) and random_states.state_of(holder) is None:
        raise Invalid(
            f"{name} is a {type(holder).__name__}, whose state is not known: a checkpoint takes what has state_dict() and "
            "load_state_dict(), dicts, and generators of random numbers"
        )


def state_of(holder: Any) -> Any:
    """Its state, over the same memory."""
    holder = unwrapped(holder)
    if hasattr(holder, "state_dict"):
        return holder.state_dict()
    return holder if isinstance(holder, dict) else random_states.state_of(holder)


def load(holder: Any, state: Any, name: str, source: str) -> None:
    """Takes a state over. ``source``: where it is from, for the error.

    Raises:
        Invalid: it does not fit.
    """
    holder = unwrapped(holder)
    try:
        if hasattr(holder, "load_state_dict"):
            holder.load_state_dict(state)
        elif isinstance(holder, dict):
            state = dict(state)
            holder.clear()
            holder.update(state)
        else:
            random_states.set_state(holder, state)
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Invalid(f"{source} does not fit: {name}: {type(error).__name__}: {error}") from error
