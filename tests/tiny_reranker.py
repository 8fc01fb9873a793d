"""A tiny cross-encoder: a BERT with a classification head, its weights random, as a GGUF file; and its scores in numpy.

The file is written by hand (GGUF is a header of keys, a table of tensors, and their data), so that tests need no package
for it. The arithmetic is BERT's, in double precision.
"""

from __future__ import annotations

import pathlib
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WIDTH, HEADS, LAYERS, INNER, CONTEXT = 32, 4, 2, 64, 64
EPSILON = 1e-12
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NOUNS = ["water", "wheel", "mill", "river", "cat", "kitten", "stock", "exchange", "stone"]
WORDS = [*NOUNS, "falls", "turns", "the", "a", "of", "in", "query", "document", ":"]
VOCABULARY = SPECIAL + WORDS
UNK, CLS, SEP = (VOCABULARY.index(name) for name in ("[UNK]", "[CLS]", "[SEP]"))

# Half precision keeps 11 bits: a rounding is off by this share of the value at most.
HALF = 2.0**-11


def make_weights(seed: int, head: bool = True) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> npt.NDArray[np.float32]:
        return random.normal(0, scale / np.sqrt(columns), (rows, columns)).astype(np.float32)

    def vector(size: int, around: float = 0.0) -> npt.NDArray[np.float32]:
        return (around + random.normal(0, 0.1, size)).astype(np.float32)

    weights = {
        "token_embd.weight": random.normal(0, 1, (len(VOCABULARY), WIDTH)).astype(np.float32),
        "position_embd.weight": random.normal(0, 0.5, (CONTEXT, WIDTH)).astype(np.float32),
        "token_types.weight": random.normal(0, 0.5, (2, WIDTH)).astype(np.float32),
        "token_embd_norm.weight": vector(WIDTH, 1),
        "token_embd_norm.bias": vector(WIDTH),
    }
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, WIDTH),
            ("attn_v", WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_up", INNER, WIDTH),
            ("ffn_down", WIDTH, INNER),
        ):
            weights[f"blk.{layer}.{name}.weight"] = matrix(rows, columns, 1.5)
            weights[f"blk.{layer}.{name}.bias"] = vector(rows)
        for name in ("attn_output_norm", "layer_output_norm"):
            weights[f"blk.{layer}.{name}.weight"] = vector(WIDTH, 1)
            weights[f"blk.{layer}.{name}.bias"] = vector(WIDTH)
    if head:
        weights["cls.weight"], weights["cls.bias"] = matrix(WIDTH, WIDTH, 1.5), vector(WIDTH)
        weights["cls.output.weight"], weights["cls.output.bias"] = matrix(1, WIDTH, 4), vector(1)
    return weights


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)


TOKENIZER = {
    "tokenizer.ggml.token_type_count": 2,
    "tokenizer.ggml.model": "bert",
    "tokenizer.ggml.pre": "jina-v2-en",
    "tokenizer.ggml.tokens": [w if w in SPECIAL else "\u2581" + w for w in VOCABULARY],
    "tokenizer.ggml.token_type": [3 if w in SPECIAL else 1 for w in VOCABULARY],
    "tokenizer.ggml.bos_token_id": CLS,
    "tokenizer.ggml.eos_token_id": SEP,
    "tokenizer.ggml.unknown_token_id": UNK,
    "tokenizer.ggml.seperator_token_id": SEP,
    "tokenizer.ggml.padding_token_id": VOCABULARY.index("[PAD]"),
    "tokenizer.ggml.mask_token_id": VOCABULARY.index("[MASK]"),
}


def write_gguf(path: pathlib.Path, keys: dict[str, Any], weights: dict[str, npt.NDArray[np.float32]]) -> pathlib.Path:
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(weights), len(keys))
    head += b"".join(_text(name) + _value(value) for name, value in keys.items())
    data = b""
    for name, array in weights.items():
        head += _text(name) + struct.pack("<I", array.ndim) + struct.pack(f"<{array.ndim}Q", *reversed(array.shape))
        head += struct.pack("<IQ", 0, len(data))
        data += array.tobytes()
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def write_model(path: pathlib.Path, weights: dict[str, npt.NDArray[np.float32]], **more: Any) -> pathlib.Path:
    """`more`: further keys, "__" for their dots."""
    keys: dict[str, Any] = {
        "general.architecture": "bert",
        "general.name": path.stem,
        "general.file_type": 0,
        "bert.context_length": CONTEXT,
        "bert.embedding_length": WIDTH,
        "bert.block_count": LAYERS,
        "bert.feed_forward_length": INNER,
        "bert.attention.head_count": HEADS,
        "bert.attention.layer_norm_epsilon": EPSILON,
        "bert.attention.causal": False,
        "bert.pooling_type": 4,
        **TOKENIZER,
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    return write_gguf(path, keys, weights)


def tokens_of(text: str) -> list[int]:
    return [VOCABULARY.index(word) if word in WORDS else UNK for word in text.split()]


def _norm(x: Array, weights: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    return scaled * weights[name + ".weight"] + weights[name + ".bias"]


def score(
    weights32: dict[str, npt.NDArray[np.float32]], tokens: list[int], noise: np.random.Generator | None = None
) -> float:
    """What the model says of a pair. With `noise`, what kernels hold in half precision (keys, values, queries and
    sums of attention, both ends of the table of GELU) is off by up to HALF of it, at random."""
    weights = {name: array.astype(np.float64) for name, array in weights32.items()}

    def half(x: Array) -> Array:
        return x if noise is None else x * (1 + noise.uniform(-HALF, HALF, x.shape))

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ weights[name + ".weight"].T + weights[name + ".bias"])

    def split(x: Array) -> Array:
        return half(x).reshape(len(tokens), HEADS, WIDTH // HEADS).transpose(1, 0, 2)

    x = weights["token_embd.weight"][tokens] + weights["token_types.weight"][0]
    x = _norm(x + weights["position_embd.weight"][: len(tokens)], weights, "token_embd_norm")
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        q, k, v = (split(linear(x, at + name)) for name in ("attn_q", "attn_k", "attn_v"))
        logits = q @ k.transpose(0, 2, 1) / np.sqrt(WIDTH // HEADS)
        shares = np.exp(logits - logits.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        mixed = shares @ v
        if noise is not None:  # attention adds value after value in half precision: each partial sum is rounded
            partial = np.cumsum(shares[..., None] * v[:, None], axis=2)
            mixed += (partial * noise.uniform(-HALF, HALF, partial.shape)).sum(axis=2)
        mixed = mixed.transpose(1, 0, 2).reshape(len(tokens), WIDTH)
        x = _norm(x + linear(mixed, at + "attn_output"), weights, at + "attn_output_norm")
        up = half(linear(x, at + "ffn_up"))
        up = half(0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3))))
        x = _norm(x + linear(up, at + "ffn_down"), weights, at + "layer_output_norm")
    pooled = np.tanh(linear(x[:1], "cls"))
    return float(linear(pooled, "cls.output")[0, 0])


def noise_of(weights: dict[str, npt.NDArray[np.float32]], tokens: list[int]) -> float:
    """How far a score may be off: four standard deviations of it under roundings to half precision."""
    random = np.random.default_rng(0)
    return 4 * float(np.std([score(weights, tokens, random) for _ in range(64)]))
