"""A tiny causal reranker as llama.cpp converts Qwen3-Reranker: a language model whose head has two rows, those of the tokens
"yes" and "no"; the score is the probability of the first at the last token. Its weights are random; its arithmetic in numpy."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
from tiny_reranker import CONTEXT, HALF, HEADS, INNER, LAYERS, TOKENIZER, VOCABULARY, WIDTH, Array, write_gguf

KV_HEADS, SIZE = 2, WIDTH // HEADS  # SIZE: numbers of a head
EPSILON, BASE = 1e-6, 10_000.0


def make_weights(seed: int) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float = 1.5) -> npt.NDArray[np.float32]:
        return random.normal(0, scale / np.sqrt(columns), (rows, columns)).astype(np.float32)

    def around_one(size: int) -> npt.NDArray[np.float32]:
        return (1 + random.normal(0, 0.1, size)).astype(np.float32)

    weights = {"token_embd.weight": matrix(len(VOCABULARY), WIDTH, 4), "output_norm.weight": around_one(WIDTH)}
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        weights[at + "attn_q.weight"] = matrix(HEADS * SIZE, WIDTH)
        weights[at + "attn_k.weight"] = matrix(KV_HEADS * SIZE, WIDTH)
        weights[at + "attn_v.weight"] = matrix(KV_HEADS * SIZE, WIDTH)
        weights[at + "attn_output.weight"] = matrix(WIDTH, HEADS * SIZE)
        weights[at + "ffn_gate.weight"], weights[at + "ffn_up.weight"] = matrix(INNER, WIDTH), matrix(INNER, WIDTH)
        weights[at + "ffn_down.weight"] = matrix(WIDTH, INNER)
        for name, size in (("attn_norm", WIDTH), ("ffn_norm", WIDTH), ("attn_q_norm", SIZE), ("attn_k_norm", SIZE)):
            weights[at + name + ".weight"] = around_one(size)
    weights["cls.output.weight"] = matrix(2, WIDTH)
    return weights


def write_model(path: pathlib.Path, weights: dict[str, npt.NDArray[np.float32]], template: str) -> pathlib.Path:
    keys: dict[str, Any] = {
        "general.architecture": "qwen3",
        "general.name": path.stem,
        "general.file_type": 0,
        "qwen3.context_length": CONTEXT,
        "qwen3.embedding_length": WIDTH,
        "qwen3.block_count": LAYERS,
        "qwen3.feed_forward_length": INNER,
        "qwen3.attention.head_count": HEADS,
        "qwen3.attention.head_count_kv": KV_HEADS,
        "qwen3.attention.key_length": SIZE,
        "qwen3.attention.value_length": SIZE,
        "qwen3.attention.layer_norm_rms_epsilon": EPSILON,
        "qwen3.rope.freq_base": BASE,
        "qwen3.pooling_type": 4,
        "qwen3.classifier.output_labels": ["yes", "no"],
        **TOKENIZER,
        "tokenizer.chat_template.rerank": template,
    }
    return write_gguf(path, keys, weights)


def _norm(x: Array, weight: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPSILON) * weight)


def _rotate(x: Array) -> Array:
    """Positions into (heads, tokens, numbers): numbers i and i + SIZE / 2 are one plane."""
    half = SIZE // 2
    angles = np.arange(x.shape[1])[:, None] * BASE ** (-np.arange(half) / half)
    low, high = x[..., :half], x[..., half:]
    return np.concatenate(
        [low * np.cos(angles) - high * np.sin(angles), low * np.sin(angles) + high * np.cos(angles)], axis=-1
    )


def score(
    weights32: dict[str, npt.NDArray[np.float32]], tokens: list[int], noise: np.random.Generator | None = None
) -> float:
    """What the model says of a pair; `noise` as in tiny_reranker."""
    weights = {name: array.astype(np.float64) for name, array in weights32.items()}

    def half(x: Array) -> Array:
        return x if noise is None else x * (1 + noise.uniform(-HALF, HALF, x.shape))

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ weights[name + ".weight"].T)

    def split(x: Array, heads: int) -> Array:
        return x.reshape(len(tokens), heads, SIZE).transpose(1, 0, 2)

    x = weights["token_embd.weight"][tokens]
    later = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        inner = _norm(x, weights[at + "attn_norm.weight"])
        q = _rotate(_norm(split(linear(inner, at + "attn_q"), HEADS), weights[at + "attn_q_norm.weight"]))
        k = _rotate(_norm(split(linear(inner, at + "attn_k"), KV_HEADS), weights[at + "attn_k_norm.weight"]))
        v = split(linear(inner, at + "attn_v"), KV_HEADS)
        q, k, v = half(q), *(np.repeat(half(one), HEADS // KV_HEADS, axis=0) for one in (k, v))
        logits = q @ k.transpose(0, 2, 1) / np.sqrt(SIZE) + later
        shares = np.exp(logits - logits.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        mixed = shares @ v
        if noise is not None:  # each partial sum is rounded
            partial = np.cumsum(shares[..., None] * v[:, None], axis=2)
            mixed += (partial * noise.uniform(-HALF, HALF, partial.shape)).sum(axis=2)
        x = x + linear(mixed.transpose(1, 0, 2).reshape(len(tokens), HEADS * SIZE), at + "attn_output")
        inner = _norm(x, weights[at + "ffn_norm.weight"])
        gate = linear(inner, at + "ffn_gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(inner, at + "ffn_up"), at + "ffn_down")
    yes, no = linear(_norm(x[-1:], weights["output_norm.weight"]), "cls.output")[0]
    return float(1 / (1 + np.exp(no - yes)))


def noise_of(weights: dict[str, npt.NDArray[np.float32]], tokens: list[int]) -> float:
    random = np.random.default_rng(0)
    return 4 * float(np.std([score(weights, tokens, random) for _ in range(64)]))
