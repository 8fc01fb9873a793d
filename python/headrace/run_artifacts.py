"""Files that a run leaves, from paths or from objects."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from headrace import run_values
from headrace.errors import Invalid

Store = Callable[[str], tuple[str, int]]  # a path: its sha256, its bytes


def save(store: Store, name: str, thing: Any) -> list[dict[str, Any]]:
    """Stores what ``thing`` is, and says what was stored: of a folder its files, then the list of them."""
    if isinstance(thing, (str, os.PathLike)):
        path = pathlib.Path(thing)
        if path.is_dir():
            return list(_folder(store, name, path))
        return [_entry(name, *store(os.fspath(path)))]
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        path = pathlib.Path(folder) / ("artifact" + pathlib.Path(name).suffix)
        _write(path, name, thing)
        return [_entry(name, *store(os.fspath(path)))]


def _entry(name: str, sha256: str, size: int) -> dict[str, Any]:
    return {"kind": "artifact", "name": name, "sha256": sha256, "bytes": size}


def _folder(store: Store, name: str, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    entries = [
        _entry(f"{name.rstrip('/')}/{path.relative_to(folder).as_posix()}", *store(os.fspath(path)))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    if not entries:
        raise Invalid(f"the folder {folder} holds no files to save")
    listing = json.dumps([[entry["name"], entry["sha256"]] for entry in entries], ensure_ascii=False)
    yield from entries
    yield {
        "kind": "folder",
        "name": name.rstrip("/"),
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "bytes": sum(entry["bytes"] for entry in entries),
    }


def _write(path: pathlib.Path, name: str, thing: Any) -> None:
    suffix = path.suffix
    if isinstance(thing, (bytes, bytearray, memoryview)):
        path.write_bytes(bytes(thing))
    elif suffix == ".safetensors":
        _safetensors(path, name, thing)
    elif suffix in (".pt", ".pth", ".bin", ".ckpt"):
        torch = importlib.import_module("torch")
        torch.save(thing.state_dict() if hasattr(thing, "state_dict") else thing, path)
    elif suffix == ".npy":
        np.save(path, np.asarray(thing), allow_pickle=False)
    elif suffix in (".json", ""):
        path.write_text(json.dumps(run_values.as_json(thing, name), ensure_ascii=False, indent=1))
    else:
        raise Invalid(
            f"a {type(thing).__name__} is not written as {suffix!r}: give bytes or a path, or a name that ends with .pt, .safetensors, "
            ".npy or .json"
        )


def _safetensors(path: pathlib.Path, name: str, thing: Any) -> None:
    state = thing.state_dict() if hasattr(thing, "state_dict") else thing
    if not isinstance(state, dict) or not state:
        raise Invalid(f"{name} takes a module, or a dict of tensors, not a {type(thing).__name__}")
    kind = "torch" if hasattr(next(iter(state.values())), "detach") else "numpy"
    try:
        writer = importlib.import_module(f"safetensors.{kind}")
    except ImportError as error:
        raise Invalid("safetensors is not installed: pip install safetensors, or save it as .pt") from error
    if kind == "torch":
        state = {key: value.detach().contiguous() for key, value in state.items()}
    writer.save_file(state, path)
