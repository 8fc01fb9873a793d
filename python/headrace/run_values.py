"""What people give a run to keep, as numbers and as JSON."""

from __future__ import annotations

import argparse
import json
import math
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from headrace import objects
from headrace.errors import Invalid

MOST_DEPTH = 32  # of what is nested


def number(value: Any) -> float | None:
    """A value of one number (a numpy scalar, a tensor of one element, a Decimal) as that; None if it is none."""
    if isinstance(value, (str, bytes, bytearray, complex)) or not hasattr(value, "__float__"):
        return None
    if getattr(value, "size", 1) != 1 and not callable(getattr(value, "size", 1)):
        return None
    elements = getattr(value, "numel", None)
    if callable(elements) and elements() != 1:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None


def step(value: Any) -> int:
    """A step as an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    try:
        return operator.index(value)
    except TypeError:
        raise Invalid(f"a step is an integer, not {value!r}") from None


def why_not(values: Any, step: int | None, error: Exception) -> str:
    """What is wrong with values that could not be logged."""
    if step is not None and not -(2**63) <= step < 2**63:
        return f"the step {step} is beyond 64 bits"
    for key, value in dict(values).items():
        if isinstance(value, int) and abs(value) >= 2**1024:
            return f"{key!r} is larger than any float"
        if isinstance(key, str) and key.encode(errors="replace").decode() != key:
            return f"{key!r} is no Unicode text"
    return str(error)


def flat(
    values: Mapping[Any, Any], separator: str = "/", prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    """Nested mappings as one: ``{"train": {"loss": 1}}`` is ``train/loss``."""
    if depth > MOST_DEPTH:
        raise Invalid(f"what is logged as {prefix.rstrip(separator)!r} is nested more than {MOST_DEPTH} deep")
    for key, value in values.items():
        name = prefix + str(key)
        if isinstance(value, Mapping):
            yield from flat(value, separator, name + separator, depth + 1)
        else:
            yield name, value


def _without_json(value: float) -> Any:
    return value if math.isfinite(value) else str(value)  # JSON has no NaN and no infinity


def as_json(value: Any, name: str, depth: int = 0) -> Any:
    """What ``json`` can write of a config's value: of dataclasses, pydantic models and namespaces their fields, of numpy's
    scalars numbers, of anything without fields its text."""
    if depth > MOST_DEPTH:
        raise Invalid(f"{name} is nested more than {MOST_DEPTH} deep, or holds itself")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _without_json(float(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(item, f"{name}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, argparse.Namespace):
        return as_json(vars(value), name, depth + 1)
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):  # pydantic
        return as_json(dump(), name, depth + 1)
    if isinstance(value, (list, tuple)):
        return [as_json(item, f"{name}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if (plain := number(value)) is not None and not hasattr(value, "__len__"):
        return int(value) if hasattr(value, "__index__") else _without_json(plain)
    try:
        step = objects.plain(value)
    except (TypeError, ValueError):
        return _text(value)  # a function, a class, a device
    if step is value or isinstance(step, objects.Media):
        return step.tolist() if hasattr(step, "tolist") else _text(value)
    return as_json(step, name, depth + 1)


def json_text(value: Any) -> str:
    """As JSON. What is no Unicode in a text, such as bytes of file names, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()


def _text(value: Any) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return f"{module}.{name}" if module and name else str(value)
