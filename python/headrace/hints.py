"""What somebody meant who wrote a name that is not there."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

# What other loaders call things.
_ELSEWHERE = {
    "drop_last": 'epoch_end="drop" leaves the last, short batch out',
    "num_workers": "threads=… are the stream's own; a function of yours runs in stream.map(function, workers=…)",
    "workers": "threads=… are the stream's own; a function of yours runs in stream.map(function, workers=…)",
    "transform": "image steps are given by the column's name, as in image=hr.Resize(224); others run in stream.map(function)",
    "sampler": "weights='column' draws rows in proportion to a column, where='…' chooses them",
    "filter": "rows are chosen by where='…'",
    "prefetch_factor": "prefetch=… is the number of batches made ahead",
    "num_epochs": "epochs=… is their number",
    "num_replicas": "world_size=… is the number of ranks",
}


def argument(name: str, function: Callable[..., Any]) -> str:
    """What to write instead of an argument that a function does not have."""
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    known = [each for each in inspect.signature(function).parameters if each not in ("self", "images")]
    if near := difflib.get_close_matches(name, known, 1, 0.75):
        return f"did you mean {near[0]}?"
    return f"image steps for a column {name!r} are made with hr.Resize(…) and the like"


class Hinted:
    """A class whose missing attributes are told with what to write instead."""

    __slots__ = ()
    _elsewhere: ClassVar[dict[str, str]] = {}  # what other libraries call things, and what to write here

    if not TYPE_CHECKING:  # to a type checker a misspelt attribute stays an error

        def __getattr__(self, name: str) -> Any:
            # Without `name=`: Python would add a guess of its own to the text.
            raise AttributeError(attribute(self, name), name=None, obj=None)


def attribute(thing: Hinted, name: str) -> str:
    """What to say of an attribute that an object does not have."""
    kind = type(thing)
    text = f"{kind.__name__} has no attribute {name!r}"
    if name.startswith("_"):
        return text
    if name in kind._elsewhere:
        return f"{text}; {kind._elsewhere[name]}"
    known = [each for each in dir(kind) if not each.startswith("_")]
    if near := difflib.get_close_matches(name, known, 1):
        return f"{text}; did you mean {near[0]}?"
    return f"{text}; it has {', '.join(known)}"
