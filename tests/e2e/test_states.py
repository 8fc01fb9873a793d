"""States as tensors and JSON, and files of tensors that somebody else wrote, or damaged."""

from __future__ import annotations

import collections
import io
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
from typing import Any

import headrace as hr
import numpy as np
import pytest
from headrace import random_states, safetensors_file, state_tree

HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def through(value: Any, tmp_path: pathlib.Path) -> Any:
    encoder = state_tree.Encoder()
    text = json.dumps(encoder.encode(value, "state"), allow_nan=False)
    path = tmp_path / "file.safetensors"
    with path.open("wb") as file:
        safetensors_file.write(file, encoder.parts, {"x": text})
    parts, metadata = safetensors_file.read(path)
    return state_tree.Decoder(parts).decode(json.loads(metadata["x"]))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and bytes(a.tobytes()) == b.tobytes()
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (isinstance(a, (float, complex)) and repr(a) == repr(b))


VALUES: dict[str, Any] = {
    "json": {"a": [1, 2.5, None, True, "ä\n", {}, []], "big": 2**127, "least": -5e-324, "third": 1 / 3},
    "floats": [math.nan, math.inf, -math.inf, -0.0],
    "containers": {"t": (1, (2,), ()), "s": {3, 1}, "f": frozenset({"a"}), "b": b"\x00\xff", "c": 1 + 2j, "n": complex(math.nan, 1)},
    "keys": {0: "a", (1, "x"): "b", None: "c", 1.5: "d", True: "e", "f": "g"},
    "dollar": {"$": "torch", "name": "nothing"},
    "counter": collections.Counter({30: 2, 80: 1}),
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "optimizer": {"state": {0: {"exp_avg": np.ones(3, np.float32), "step": np.float32(7)}}, "param_groups": [{"betas": (0.9, 0.95)}]},
    "arrays": {
        name: (np.arange(12).reshape(3, 4) % 2).astype(name)
        for name in ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64", "complex64")
    },
    "shapes": [np.zeros((), np.int64), np.zeros((0, 3), np.float32), np.zeros((2, 0), bool), np.full((1, 1, 1), np.nan)],
    "scalars": [np.float32(0.1), np.int8(-3), np.bool_(True), np.float64(math.inf), np.uint64(2**64 - 1)],
    "names": {"a.b": np.zeros(1), "a": {"b": np.ones(1)}, "__metadata__": np.full(1, 2.0), "": np.full(1, 3.0)},
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_states_come_back(name: str, tmp_path: pathlib.Path) -> None:
    back = through(VALUES[name], tmp_path)
    assert same(VALUES[name], back), back


def test_views_and_orders_of_bytes(tmp_path: pathlib.Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (
        array.T,
        array[::-1, ::2],
        array[1:3],
        array.astype(">f4"),
        np.asfortranarray(array),
        np.broadcast_to(array[0], (3, 6)),
    ):
        back = through({"x": view}, tmp_path)["x"]
        assert back.dtype == np.float32 and np.array_equal(back, view)
        back[...] = 0  # its own memory, which may be written to
    assert array.sum() == 276


def test_what_is_there_twice_is_written_once_and_is_one_again(tmp_path: pathlib.Path) -> None:
    tied = np.arange(1000.0)
    back = through({"head": tied, "embedding": tied, "half": tied[:500], "copy": tied.copy()}, tmp_path)
    assert (tmp_path / "file.safetensors").stat().st_size < (2 * 8000 + 4000) + 1000
    assert back["head"] is back["embedding"] and back["head"] is not back["copy"]
    assert np.array_equal(back["copy"], tied) and np.array_equal(back["half"], tied[:500])


def test_generators_go_on(tmp_path: pathlib.Path) -> None:
    generators: list[Any] = [np.random.default_rng(1), np.random.Generator(np.random.MT19937(2)), np.random.Generator(np.random.Philox(3)),
                             np.random.RandomState(4), random.Random(5)]  # fmt: skip
    for generator in generators:
        draw = getattr(generator, "normal", None) or generator.gauss
        draw(0, 1)
        state = through(random_states.state_of(generator), tmp_path)
        expected = [draw(0, 1) for _ in range(7)]
        random_states.set_state(generator, state)
        assert [draw(0, 1) for _ in range(7)] == expected
    random.gauss(0, 1), np.random.normal()  # both keep a second value
    state = through(random_states.capture(True), tmp_path)
    expected = [random.gauss(0, 1), random.random(), np.random.normal(), np.random.random()]
    random_states.restore(state)
    assert [random.gauss(0, 1), random.random(), np.random.normal(), np.random.random()] == expected


def test_others_read_the_file_of_a_model(tmp_path: pathlib.Path, catalog: hr.Catalog) -> None:
    """By the specification of the format, with nothing of ours."""
    with hr.run(catalog=catalog, system=False) as run:
        state = {
            "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
            "layer.bias": np.arange(2, dtype=np.int64),
        }
        hr.Checkpointer(run, model=state).save(3)
    path = catalog.checkpoints(run.id)[0].fetch("model.safetensors", tmp_path / "m.safetensors")
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    metadata = header.pop("__metadata__")
    assert set(header) == {"layer.weight", "layer.bias"} and all(isinstance(value, str) for value in metadata.values())
    begin, end = header["layer.weight"]["data_offsets"]
    assert np.frombuffer(data[begin:end], "<f4").tolist() == [0, 1, 2, 3, 4, 5]
    assert (8 + length + header["layer.bias"]["data_offsets"][0]) % 8 == 0


def write(path: pathlib.Path, header: Any, data: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def changed(**entry: Any) -> dict[str, Any]:
    return {"a": {**HEADER["a"], **entry}}


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        (HEADER, b"\0" * 7, None),  # cut off
        (HEADER, b"\0" * 9, None),  # more than is named
        (HEADER, b"\0" * 8, 2**63),
        (HEADER, b"\0" * 8, 10),
        (b"[1]", b"", None),
        (b"\xff{}", b"", None),
        (b"[" * 100_000, b"", None),
        (b'{"a":' * 50_000, b"", None),
        ({**HEADER, "b": HEADER["a"]}, b"\0" * 8, None),  # one over the other
        ({**HEADER, "b": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]}}, b"\0" * 16, None),  # a hole
        (changed(dtype="F33"), b"\0" * 8, None),
        (changed(dtype=["F32"]), b"\0" * 8, None),
        (changed(shape=[3]), b"\0" * 8, None),
        (changed(shape=[-1, -2]), b"\0" * 8, None),
        (changed(shape=[2.0]), b"\0" * 8, None),
        (changed(shape=[True, 2]), b"\0" * 8, None),
        (changed(shape=[2**62, 2**62]), b"\0" * 8, None),
        (changed(data_offsets=[8, 0]), b"\0" * 8, None),
        (changed(data_offsets=[0]), b"\0" * 8, None),
        ({"a": 5}, b"", None),
        ({"__metadata__": {"x": 5}}, b"", None),
        ({"__metadata__": "x"}, b"", None),
    ],
)
def test_damaged_files_are_refused(header: Any, data: bytes, length: int | None, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file.safetensors"
    write(path, HEADER, b"\0" * 8)
    assert safetensors_file.to_numpy(safetensors_file.read(path)[0]["a"]).tolist() == [0, 0]
    write(path, header, data, length)
    with pytest.raises(hr.Corrupt, match=r"file\.safetensors is no file of tensors"):
        safetensors_file.read(path)


def test_a_file_of_any_bytes_is_refused_or_read(tmp_path: pathlib.Path) -> None:
    """Every byte of a header, changed."""
    path = tmp_path / "file.safetensors"
    buffer = io.BytesIO()
    encoder = state_tree.Encoder()
    text = json.dumps(
        encoder.encode({"a": np.ones(2, np.float32), "b": {1: np.zeros(3, np.int8)}, "c": (1, math.nan)}, "")
    )
    safetensors_file.write(buffer, encoder.parts, {"x": text})
    whole = buffer.getvalue()
    rng = random.Random(3)
    outcomes = collections.Counter()
    for at in range(len(whole)):
        for value in {0, 255, rng.randrange(256)}:
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                parts, metadata = safetensors_file.read(path)
                state_tree.Decoder(parts).decode(json.loads(metadata["x"]))
                outcomes["read"] += 1
            except (hr.Corrupt, KeyError, ValueError) as error:
                outcomes[type(error).__name__] += 1
    assert outcomes["Corrupt"] > 100 and outcomes["read"] > 10, outcomes
    for size in (0, 3, 8):
        path.write_bytes(b"\0" * size)
        with pytest.raises(hr.Corrupt):
            safetensors_file.read(path)


@pytest.mark.parametrize(
    "value",
    [
        {"$": "torch"}, {"$": "numpy", "name": "no"}, {"$": "numpy", "name": ["a"]}, {"$": "code", "items": []}, {"$": []},
        {"$": "dict", "items": [[1]]}, {"$": "dict", "items": [[{}, 1]]}, {"$": "float", "value": "1"}, {"$": "bytes", "value": "x"},
        {"$": "scalar", "dtype": "object", "value": [1]}, {"$": "scalar", "dtype": "float32", "value": "x"}, {"$": "complex", "value": [1, 2, 3]},
        {"$": "set", "items": [[1]]}, {"$": "OrderedDict"},
    ],
)  # fmt: skip
def test_states_that_nobody_wrote_are_refused(value: Any) -> None:
    with pytest.raises(hr.Corrupt, match="the state cannot be read"):
        state_tree.Decoder({}).decode({"a": [value]})


def test_the_package_needs_no_torch_and_says_what_callbacks_need() -> None:
    code = """
import sys
for name in ("lightning", "pytorch_lightning", "transformers", "composer"):
    sys.modules[name] = None  # as if it were not installed
import headrace as hr
from headrace import callbacks
assert hr.Checkpointer and hr.Checkpoint and "torch" not in sys.modules and "LightningCallback" in dir(callbacks)
for name, needs in [("LightningCallback", "lightning"), ("HeadraceLogger", "lightning"), ("HeadraceCallback", "'transformers[torch]'"),
                    ("ComposerLogger", "mosaicml")]:
    try:
        getattr(callbacks, name)
    except ImportError as error:
        assert f"pip install {needs}" in str(error), error
    else:
        raise AssertionError(name)
try:
    callbacks.KerasCallback
except AttributeError as error:
    assert "it has ComposerLogger, HeadraceCallback" in str(error)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
