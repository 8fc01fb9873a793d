"""Texts that become tokens while a stream packs them, held against the model's own tokenizer."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import headrace as hr
import pyarrow as pa
import pytest

MODELS = Path(os.environ.get("HEADRACE_CACHE", Path.home() / ".cache/headrace")) / "models"
GEMMA = MODELS / "gemma-3-270m-q4_k_m.gguf"
MINILM = MODELS / "all-minilm-l6-v2-f16.gguf"
pytestmark = pytest.mark.skipif(not GEMMA.exists(), reason="./dev setup models")

WORDS = [
    "the",
    "river",
    "runs",
    "down",
    "to",
    "a",
    "mill",
    "水車",
    "größer",
    "🦀",
    "and",
    "turns",
    "\n",
    "its",
    "wheel",
    "<bos>",
    "{}",
    "3.14",
    "[…]",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[hr.Table, list[str | None]]:
    catalog = hr.init(str(tmp_path_factory.mktemp("tokens") / "catalog"))
    draw = random.Random(7)
    texts: list[str | None] = [
        " ".join(draw.choice(WORDS) for _ in range(int(draw.expovariate(1 / 30)))) for _ in range(700)
    ]
    texts[3], texts[500], texts[501] = None, "", "longer than a row " * 60
    table = catalog.create_table("corpus", {"text": "string", "n": "int64"})
    table.append(pa.table({"text": pa.array(texts, pa.string()), "n": pa.array(range(700))}))
    return table, texts


@pytest.fixture(scope="module")
def expected(corpus: tuple[hr.Table, list[str | None]]) -> list[list[int]]:
    with hr.Model(GEMMA, context=512) as model:
        # Gemma's own: <bos> before each text, <eos> (1) after it.
        return [[] if text is None else [*model.tokenize(text), 1] for text in corpus[1]]


def rows(batches: Iterator[dict[str, Any]], expected: list[list[int]]) -> list[tuple[int, ...]]:
    out = []
    for batch in batches:
        for row in range(len(batch["valid"])):
            if not batch["valid"][row]:
                continue
            segments = batch["segment_ids"][row]
            for segment in range(1, segments.max() + 1):
                inside = segments == segment
                document = expected[batch["documents"][row][segment - 1]]
                positions = batch["position_ids"][row][inside]
                assert batch["tokens"][row][inside].tolist() == [document[p] for p in positions]
            out.append(tuple(batch["tokens"][row][segments > 0].tolist()))
    return out


def test_every_token_once_and_resumed_at_any_world_size(
    corpus: tuple[hr.Table, list[str | None]], expected: list[list[int]]
) -> None:
    table, _ = corpus
    pack = hr.Pack("text", 256, window=64, tokenize=hr.Tokenize(GEMMA))
    stream = hr.Stream(table, pack=pack, batch_size=4, seed=1)
    whole = rows(iter(stream), expected)
    assert sorted(t for row in whole for t in row) == sorted(t for document in expected for t in document)
    assert stream.stats()["packed_tokens"] / stream.stats()["packed_slots"] > 0.9
    second = rows(iter(stream), expected)
    assert sorted(t for row in second for t in row) == sorted(t for row in whole for t in row) and second != whole
    for steps in (1, 5):
        begun = hr.Stream(table, pack=pack, batch_size=4, seed=1)
        batches = iter(begun)
        head = rows((next(batches) for _ in range(steps)), expected)
        ranks = [hr.Stream(table, pack=pack, batch_size=2, rank=r, world_size=2, seed=1) for r in range(2)]
        for one in ranks:
            one.load_state_dict(begun.state_dict())
        rest: list[tuple[int, ...]] = []
        for parts in zip(*ranks, strict=True):
            columns = [rows(iter([part]), expected) for part in parts]
            for index in range(2):
                rest += [column[index] for column in columns if index < len(column)]
        assert head + rest == whole
    travelled = pickle.loads(pickle.dumps(hr.Stream(table, pack=pack, batch_size=4, seed=1)))
    assert rows(iter(travelled), expected) == whole


def test_a_state_knows_its_tokenizer_and_errors_name_what_is_wrong(corpus: tuple[hr.Table, list[str | None]]) -> None:
    table, _ = corpus

    def opened(**more: Any) -> hr.Stream:
        return hr.Stream(table, pack=hr.Pack("text", 256, tokenize=hr.Tokenize(GEMMA, **more)), batch_size=4)

    begun = opened()
    next(iter(begun))
    with pytest.raises(hr.Invalid, match="another filter, tokenizer or table"):
        opened(end=False).load_state_dict(begun.state_dict())
    other = hr.Stream(table, pack=hr.Pack("text", 256, tokenize=hr.Tokenize(MINILM, end=False)), batch_size=4)
    with pytest.raises(hr.Invalid, match="another filter, tokenizer or table"):
        other.load_state_dict(begun.state_dict())
    opened().load_state_dict(begun.state_dict())
    with pytest.raises(hr.Invalid, match="a tokenizer reads texts, and 'n' is int64"):
        hr.Stream(table, pack=hr.Pack("n", 256, tokenize=hr.Tokenize(GEMMA)))
    with pytest.raises(hr.Invalid, match="give no column of lengths"):
        hr.Stream(table, pack=hr.Pack("text", 256, "n", tokenize=hr.Tokenize(GEMMA)))
    with pytest.raises(hr.Invalid, match="or give a tokenizer"):
        hr.Stream(table, pack=hr.Pack("text", 256))
    with pytest.raises(hr.NotFound, match=r"nowhere\.gguf"):
        hr.Stream(table, pack=hr.Pack("text", 256, tokenize=hr.Tokenize("nowhere.gguf")))
    with pytest.raises(hr.LimitExceeded, match="packing window"):
        next(
            iter(hr.Stream(table, pack=hr.Pack("text", 16, tokenize=hr.Tokenize(GEMMA)), batch_size=1, memory=200_000))
        )
