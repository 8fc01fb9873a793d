"""Files that pages of the docs take for granted: their hidden set-up blocks call these functions."""

from __future__ import annotations

import json
import os
import pathlib
import struct

CACHE = pathlib.Path(os.environ.get("HEADRACE_CACHE", pathlib.Path.home() / ".cache" / "headrace"))
MODELS = {
    "gemma": CACHE / "models" / "gemma-3-270m-q4_k_m.gguf",
    "minilm": CACHE / "models" / "all-minilm-l6-v2-f16.gguf",
    "smol": CACHE / "models" / "smollm2-135m-instruct-q4_1.gguf",
}


def photographs(folder: str, count: int = 8, width: int = 90, height: int = 80) -> None:
    """`count` small JPEG pictures, 001.jpg and so on."""
    import numpy as np
    from PIL import Image

    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        coarse = np.random.default_rng(index).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(pathlib.Path(folder) / f"{index + 1:03}.jpg", "JPEG")


def lines(name: str, *rows: object) -> None:
    """A file with a line for each: texts as they are, everything else as JSON."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    pathlib.Path(name).write_text(text)


def event_file(name: str, key: str, values: list[float]) -> None:
    """A file of TensorBoard's with a value of the key for each step, as PyTorch's writer makes them."""
    from headrace.tensorboard_files import masked_crc32c

    def part(field: int, data: bytes) -> bytes:  # shorter than 128 bytes
        return bytes([field << 3 | 2, len(data)]) + data

    text = b""
    for step, value in enumerate(values):
        summary = part(1, part(1, key.encode()) + b"\x15" + struct.pack("<f", value))
        event = (
            b"\x09"
            + struct.pack("<d", 1.76e9 + step)
            + b"\x10"
            + bytes([step & 0x7F | 0x80, step >> 7])
            + part(5, summary)
        )
        head = struct.pack("<Q", len(event))
        text += head + struct.pack("<I", masked_crc32c(head)) + event + struct.pack("<I", masked_crc32c(event))
    pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(name).write_bytes(text)


def model(name: str, which: str) -> None:
    """A small model, "gemma", "minilm" or "smol", under another name."""
    pathlib.Path(name).symlink_to(MODELS[which])


# Of an adapter's base: its architecture, and one of its weights: name, inputs, outputs.
BASES = {
    "gemma": ("gemma3", "blk.0.attn_q.weight", 640, 4 * 256),
    "smol": ("llama", "blk.0.attn_output.weight", 9 * 64, 576),
}


def adapter(name: str, base: str = "gemma", spread: float = 0.02, seed: int = 0) -> None:
    """A LoRA adapter for a small model, at random, as a GGUF file (the format's specification: ggml's docs/gguf.md)."""
    import numpy as np

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    rank = 4
    architecture, weight, inputs, outputs = BASES[base]
    keys = [("general.type", "adapter"), ("general.architecture", architecture), ("adapter.type", "lora")]
    tensors = {f"{weight}.lora_a": (inputs, rank), f"{weight}.lora_b": (rank, outputs)}
    string, float32, alignment = 8, 6, 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys) + 1)
    for key, value in keys:
        head += text(key) + struct.pack("<I", string) + text(value)
    head += text("adapter.lora.alpha") + struct.pack("<If", float32, 4.0)
    data = b""
    for key, (inner, outer) in tensors.items():
        head += text(key) + struct.pack("<IQQIQ", 2, inner, outer, 0, len(data))  # two axes, of type F32
        data += np.random.default_rng([seed, inner]).normal(0, spread, (outer, inner)).astype("<f4").tobytes()
    pathlib.Path(name).write_bytes(head + b"\0" * (-len(head) % alignment) + data)
