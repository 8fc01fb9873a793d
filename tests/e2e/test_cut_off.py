"""Files that somebody cuts off while they are mapped: an error that names the file, and never a wrong value."""

from __future__ import annotations

import concurrent.futures
import io
import os
import pathlib
import random
from collections.abc import Callable
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
from headrace.transforms import CenterCrop
from PIL import Image

ROWS = 200_000
CUTS: dict[str, Callable[[int], int]] = {
    "empty": lambda size: 0,
    "half": lambda size: size // 2,
    "one byte": lambda size: size - 1,
}


def picture(number: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def make(folder: pathlib.Path, rows: int = ROWS) -> hr.Table:
    """Numbers, texts, lists and vectors that follow from the row's number."""
    catalog = hr.init(folder / "c", sync=False)
    table = catalog.create_table("t", {"n": "int64", "s": "string", "l": "list<int32>", "v": "tensor<float32>[16]"})
    n = np.arange(rows)
    vectors = np.repeat(n.astype(np.float32)[:, None], 16, axis=1)
    columns = {
        "n": pa.array(n),
        "s": pa.array(n).cast(pa.string()),
        "l": pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * 2, np.repeat(n, 2).astype(np.int32)),
        "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 16),
    }
    table.append(pa.table(columns))
    return table


def cut(folder: pathlib.Path, kind: str, to: Callable[[int], int]) -> list[str]:
    files = sorted((folder / "c").glob(f"tables/*/*/*.{kind}"))
    assert files
    for file in files:
        os.truncate(file, to(file.stat().st_size))
    return [file.name for file in files]


def check(batch: Any) -> None:
    rows = pa.table(batch)
    n = rows["n"].to_numpy()
    assert (rows["s"].cast(pa.int64()).to_numpy() == n).all()
    assert (rows["l"].combine_chunks().flatten().to_numpy() == np.repeat(n, 2)).all()
    vectors = rows["v"].combine_chunks().flatten().to_numpy().reshape(-1, 16)
    assert (vectors == n[:, None].astype(np.float32)).all()


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("to", CUTS.values(), ids=CUTS)
def test_scans_takes_and_sql(tmp_path: pathlib.Path, kind: str, to: Callable[[int], int]) -> None:
    table = make(tmp_path)
    check(table.take([5, 150_000]))
    scan = table.scan().batches()
    check(next(scan))
    sql = hr.open(tmp_path / "c").sql("select * from t").batches()
    check(next(sql))
    names = cut(tmp_path, kind, to)
    for rows in (scan, sql):
        with pytest.raises(hr.Corrupt, match="|".join(names)):
            for batch in rows:
                check(batch)
    for _ in range(2):
        with pytest.raises(hr.Corrupt, match="|".join(names)):
            table.take([5, 150_000])
    verified = table.verify()
    assert not verified
    assert {damage.object.rsplit("/", 1)[1] for damage in verified.damaged} >= set(names)


def test_a_stream(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c", sync=False)
    count = 3_000
    table = catalog.create_table("t", {"image": "blob", "n": "int32"})
    table.append({"image": [picture(i) for i in range(count)], "n": np.arange(count, dtype=np.int32)})
    wanted = {i: np.asarray(Image.open(io.BytesIO(picture(i)))) for i in range(0, count, 100)}
    stream = hr.Stream(table, ["image", "n"], image=CenterCrop((48, 64)), batch_size=50, seed=1)
    batches = iter(stream)
    seen = 0
    names: list[str] = []
    with pytest.raises(hr.Corrupt) as error:
        for batch in batches:
            for number, pixels in zip(batch["n"], batch["image"], strict=True):
                if int(number) in wanted:
                    assert (np.moveaxis(np.asarray(pixels), 0, -1) == wanted[int(number)]).all()
            seen += 1
            if seen == 2:
                names = cut(tmp_path, "pack", CUTS["half"])
    assert any(name in str(error.value) for name in names), error.value
    with pytest.raises(hr.Corrupt, match="|".join(names)):
        table.take(list(range(count)), ["image"]).blobs("image")


def test_many_readers_see_errors_or_what_was_there(tmp_path: pathlib.Path) -> None:
    for seed in range(4):
        folder = tmp_path / str(seed)
        table = make(folder, 60_000)
        draw = random.Random(seed)
        check(table.scan().to_arrow())  # mapped, and checked against its sums

        def read(worker: int, table: hr.Table = table) -> int:
            mine = random.Random(worker)
            for done in range(3_000):
                try:
                    check(table.take([mine.randrange(60_000) for _ in range(20)]))
                except hr.Corrupt as error:
                    assert "was cut off" in str(error) or "checksum" in str(error)
                    return done
            raise AssertionError("nothing was noticed")

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read, worker) for worker in range(4)]
            for kind in draw.sample(["parquet", "arrow"], 2):
                cut(folder, kind, draw.randrange)
            assert all(reader.result() >= 0 for reader in readers)


def test_views_that_were_given_out(tmp_path: pathlib.Path) -> None:
    """They read as zeros, and the process lives; what is read next says so."""
    table = make(tmp_path)
    vectors = next(table.scan(["v"]).batches())["v"]
    assert vectors[9, 0] == 9
    cut(tmp_path, "arrow", CUTS["empty"])
    assert float(vectors.sum()) == 0
    with pytest.raises(hr.Corrupt):
        table.take([5], ["v"])
