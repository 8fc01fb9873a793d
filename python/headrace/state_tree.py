"""States of models, optimizers and the like, as JSON and tensors: nothing in them is code, so nothing that is read runs.

JSON's own values stand for themselves. Everything else is an object with the key ``$``, which says what it is."""

from __future__ import annotations

import base64
import collections
import enum
import io
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headrace import safetensors_file
from headrace.errors import Corrupt, Invalid, Unsupported
from headrace.safetensors_file import METADATA, Part

MOST_DEPTH = 100  # of what is nested
_MAPPINGS: dict[str, type] = {"OrderedDict": collections.OrderedDict, "Counter": collections.Counter}
_PLAIN_TENSORS = ("Tensor", "Parameter", "Buffer")


class Encoder:
    """Takes states apart: ``encode()`` gives what is JSON, ``parts`` collects the tensors by name."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self._names: dict[Any, str] = {}  # of tensors over the same memory, which are written once
        self._held: list[Any] = []  # while memory is compared by its address

    def encode(self, value: Any, name: str, depth: int = 0) -> Any:
        """What ``json`` can write. ``name``: of the value, for its tensors and for errors.

        Raises:
            Invalid: a value is neither JSON's, a tensor, nor one of the containers that are known; or nested too deeply.
            Unsupported: a tensor that lies on several devices, is sparse or quantized.
        """
        if depth > MOST_DEPTH:
            raise Invalid(f"{name} is nested more than {MOST_DEPTH} deep, or holds itself")
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, enum.Enum):
            return self.encode(value.value, name, depth + 1)
        if type(value) is float:
            return value if math.isfinite(value) else {"$": "float", "value": repr(value)}
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            return self._torch(value, name)
        if isinstance(value, np.ndarray):
            return self._numpy(value, name)
        if isinstance(value, np.generic):
            return {"$": "scalar", "dtype": value.dtype.name, "value": self.encode(value.item(), name, depth + 1)}
        if isinstance(value, dict):
            return self._mapping(value, name, depth)
        if type(value) is list:
            return [self.encode(item, f"{name}.{index}", depth + 1) for index, item in enumerate(value)]
        if type(value) in (tuple, set, frozenset) or type(value).__name__ == "Size":
            items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else list(value)
            kind = type(value).__name__ if type(value).__name__ != "Size" else "tuple"
            return {"$": kind, "items": self.encode(items, name, depth + 1)}
        if isinstance(value, bytes):
            return {"$": "bytes", "value": value.hex()}
        if type(value) is complex:
            return {"$": "complex", "value": [self.encode(part, name, depth + 1) for part in (value.real, value.imag)]}
        if hasattr(value, "__array__") and hasattr(value, "dtype"):  # jax's, for one
            return self._numpy(np.asarray(value), name)
        raise Invalid(
            f"{name} is a {type(value).__module__}.{type(value).__qualname__}, which a checkpoint does not hold: "
            "tensors, arrays, numbers, texts, and dicts, lists, tuples and sets of them"
        )

    def _mapping(self, value: Mapping[Any, Any], name: str, depth: int) -> Any:
        kind = type(value).__name__ if type(value).__name__ in _MAPPINGS else "dict"
        if kind == "dict" and all(type(key) is str for key in value) and "$" not in value:
            return {key: self.encode(item, f"{name}.{key}" if name else key, depth + 1) for key, item in value.items()}
        items = [
            [
                self.encode(key, f"a key of {name}", depth + 1),
                self.encode(item, f"{name}.{key}" if name else str(key), depth + 1),
            ]
            for key, item in value.items()
        ]
        return {"$": kind, "items": items}

    def _torch(self, tensor: Any, name: str) -> Any:
        if hasattr(tensor, "full_tensor"):
            raise Unsupported(
                f"{name} is a DTensor, of which each rank has a part: give the whole state of it (torch.distributed.checkpoint."
                "state_dict.get_state_dict with full_state_dict=True), or write it with torch.distributed.checkpoint"
            )
        if type(tensor).__name__ not in _PLAIN_TENSORS or tensor.is_sparse or tensor.is_quantized or tensor.is_meta:
            kind = f"{type(tensor).__name__}, {tensor.layout}" + (", quantized" if tensor.is_quantized else "")
            raise Unsupported(f"{name} is no plain tensor ({kind}; on {tensor.device})")
        key = (tensor.data_ptr(), str(tensor.device), str(tensor.dtype), tuple(tensor.shape), tuple(tensor.stride()))
        return self._tensor("torch", tensor, name, key if tensor.numel() else None, safetensors_file.of_torch)

    def _numpy(self, array: Any, name: str) -> Any:
        key = (
            (array.__array_interface__["data"][0], array.dtype.str, array.shape, array.strides) if array.size else None
        )
        return self._tensor("numpy", array, name, key, safetensors_file.of_numpy)

    def _tensor(self, kind: str, tensor: Any, name: str, key: Any, part_of: Callable[[Any], Part]) -> Any:
        if key is not None and (earlier := self._names.get((kind, key))) is not None:
            return {"$": kind, "name": earlier}
        try:
            part = part_of(tensor)
        except Invalid as error:
            raise Invalid(f"{name}: {error}") from error
        found, number = name, 0
        while found in self.parts or found in ("", METADATA):
            number += 1
            found = f"{name}~{number}"
        self.parts[found] = part
        self._names[(kind, key)] = found
        self._held.append(tensor)
        return {"$": kind, "name": found}


def to_text(state: Any) -> str:
    """A state that is not large as text, for what takes no tensors.

    Raises:
        Invalid, Unsupported: as ``Encoder.encode``.
    """
    encoder = Encoder()
    structure = encoder.encode(state, "state")
    file = io.BytesIO()
    safetensors_file.write(file, encoder.parts, {"state": json.dumps(structure, ensure_ascii=False)})
    return base64.b64encode(file.getvalue()).decode()


def of_text(text: str) -> Any:
    """What ``to_text`` was given.

    Raises:
        Corrupt: it made no such text.
    """
    try:
        parts, metadata = safetensors_file.parse(base64.b64decode(text, validate=True), "the state")
        return Decoder(parts).decode(json.loads(metadata["state"]))
    except (ValueError, KeyError, RecursionError) as error:
        raise Corrupt(f"the state cannot be read: {error}") from error


class Decoder:
    """Puts states together again from what ``Encoder`` made."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = parts
        self._made: dict[tuple[str, str], Any] = {}

    def decode(self, value: Any) -> Any:
        """The value.

        Raises:
            Corrupt: it is none that ``Encoder`` makes, or a tensor is missing.
        """
        try:
            return self._decode(value)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise Corrupt(f"the state cannot be read: {type(error).__name__}: {error}") from error

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$" not in value:
            return {key: self._decode(item) for key, item in value.items()}
        kind = value["$"]
        if kind in ("torch", "numpy"):
            return self._tensor(kind, value["name"])
        if kind == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value["value"]]
        if kind == "scalar":
            dtype = np.dtype(str(value["dtype"]))
            if dtype.kind not in "biufc":
                raise ValueError(f"a scalar of {dtype}")
            return dtype.type(self._decode(value["value"]))
        if kind in ("tuple", "set", "frozenset"):
            return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](self._decode(value["items"]))
        if kind == "bytes":
            return bytes.fromhex(value["value"])
        if kind == "complex":
            return complex(*self._decode(value["value"]))
        made = {} if kind == "dict" else _MAPPINGS[kind]()
        for key, item in value["items"]:
            made[self._decode(key)] = self._decode(item)
        return made

    def _tensor(self, kind: str, name: str) -> Any:
        if (kind, name) not in self._made:
            to = safetensors_file.to_torch if kind == "torch" else safetensors_file.to_numpy
            self._made[kind, name] = to(self._parts[name])
        return self._made[kind, name]
