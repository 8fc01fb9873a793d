"""The Python package: what its docstrings promise."""

from __future__ import annotations

import datetime
import io
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image


def jpeg(width: int = 64, height: int = 48) -> bytes:
    out = io.BytesIO()
    ramp = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(out, "JPEG", quality=95)
    return out.getvalue()


def test_rows_in_every_form_come_back_the_same(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"a": "int64", "b": "string", "vec": "tensor<float32>[2]"})
    table.append([{"a": 1, "b": "x"}, {"a": 2, "b": None}])
    table.append({"a": np.array([3, 4]), "b": ["y", "z"], "vec": np.array([[1, 2], [3, 4]], np.float32)})
    table.append(pa.table({"a": [5], "vec": pa.array([[7.0, 8.0]], pa.list_(pa.float32(), 2))}))
    rows = table.scan().to_pylist()
    assert [row["a"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["b"] for row in rows] == ["x", None, "y", "z", None]
    assert rows[0]["vec"] is None and rows[4]["vec"].tolist() == [7.0, 8.0]
    assert table.take([4, 2], ["vec"])["vec"].tolist() == [[7.0, 8.0], [1.0, 2.0]]
    assert table.count("a > 2 and vec is not null") == 3
    again = pa.table(table.scan(columns=["a"]))
    assert again["a"].to_pylist() == [1, 2, 3, 4, 5]


def test_types_of_arrow_are_mapped_or_refused(catalog: hr.Catalog) -> None:
    source = pa.table(
        {
            "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
            "large": pa.array(["x", None, "z"], pa.large_string()),
            "when": pa.array([datetime.datetime(2026, 11, 22, 8, 15, 30, 123456)] * 3),
            "day": pa.array([datetime.date(2026, 11, 22)] * 3),
            "nested": pa.array([{"a": [1, 2]}, None, {"a": []}]),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(36, dtype=np.uint8).reshape(3, 3, 2, 2)),
        }
    )
    table = catalog.create_table("t", source)
    row = table.take([0])[0]
    assert row["dictionary"] == "a" and row["large"] == "x"
    assert row["when"] == datetime.datetime(2026, 11, 22, 8, 15, 30, 123456)
    assert row["day"] == datetime.date(2026, 11, 22)
    assert row["nested"] == {"a": [1, 2]}
    assert row["image"].shape == (3, 2, 2)
    with pytest.raises(hr.Unsupported, match="all its values are null"):
        catalog.create_table("bad", pa.table({"x": pa.nulls(1)}))


def test_blobs_have_facts_and_decode(catalog: hr.Catalog) -> None:
    table = catalog.create_table("photos", {"name": "string", "image": "blob"})
    table.append(pa.table({"name": ["a", "b", "c"], "image": pa.array([jpeg(), b"not an image", None])}))
    first, second, third = table.take([0, 1, 2])
    assert bytes(first["image"]) == jpeg()
    assert first["image"].decode().shape == (48, 64, 3)
    reference = np.asarray(Image.open(io.BytesIO(jpeg())).convert("RGB"))
    assert np.array_equal(first["image"].decode(), reference)
    assert second["image"].media_type is None and bytes(second["image"]) == b"not an image"
    assert third["image"] is None
    with pytest.raises(hr.Unsupported):
        second["image"].decode()
    assert table.count("image.width = 64") == 1
    assert [len(blob or b"") for blob in table.take([1, 0], ["image"]).blobs("image")] == [12, len(jpeg())]


def test_pictures_are_added_as_blobs_with_facts(catalog: hr.Catalog) -> None:
    table = catalog.create_table("photos", {"name": "string"})
    table.append({"name": ["a", "b"]})
    table.add_columns({"thumb": [Image.open(io.BytesIO(jpeg())), None]})
    table.add_columns(lambda batch: {"small": [Image.new("RGB", (7, 5))] * len(batch)}, inputs=["name"])
    assert table.columns["thumb"] == table.columns["small"] == "blob"
    first, second = table.take([0, 1])
    assert (first["thumb"].width, first["thumb"].height) == (64, 48) and second["thumb"] is None
    assert (second["small"].width, second["small"].height) == (7, 5)
    # Bytes fill the holes of a blob column, and get their facts too.
    table.append({"name": ["c"]})
    table.add_columns({"thumb": pa.array([None, None, jpeg()], pa.binary())})
    assert table.count("thumb.width = 64") == 2 and table.count("thumb.media_type = 'image/jpeg'") == 1


def test_columns_from_a_function_and_its_errors(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"a": np.arange(100_000)})
    commit = table.add_columns(lambda batch: {"square": batch["a"] ** 2}, inputs=["a"])
    assert commit.rows == 100_000
    assert table.take([99_999], ["square"])["square"].tolist() == [99_999**2]
    version = table.version
    with pytest.raises(ZeroDivisionError):
        table.add_columns(lambda batch: 1 / 0, inputs=["a"])
    with pytest.raises(hr.Invalid, match="one for each"):
        table.add_columns(lambda batch: {"x": np.zeros(3)}, inputs=["a"])
    with pytest.raises(TypeError, match="inputs"):
        table.add_columns(lambda batch: {})
    assert table.at().columns == table.at(version).columns


def test_columns_of_several_chunks_go_in_whole(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"a": np.arange(5)})

    def chunks(batch: hr.Batch) -> pa.Table:
        return pa.table({"b": pa.chunked_array([batch["a"][:2], batch["a"][2:]])})

    table.add_columns(chunks, inputs=["a"])
    table.add_columns(pa.table({"c": pa.chunked_array([[0, 1], [2], [3, 4]])}))
    assert [(row["b"], row["c"]) for row in table.scan()] == [(i, i) for i in range(5)]


def test_only_holes_are_filled(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"a": np.arange(40_000)})
    seen: list[int] = []

    def double(batch: hr.Batch) -> dict[str, Any]:
        seen.extend(batch["a"].tolist())
        return {"b": batch["a"] * 2}

    table.add_columns(double, inputs=["a"])
    table.append({"a": [7, 8, 9]})
    seen.clear()
    assert table.add_columns(double, inputs=["a"]).rows == 3 and seen == [7, 8, 9]
    assert table.take([0, 39_999, 40_002], ["b"])["b"].tolist() == [0, 2 * 39_999, 18]
    version = table.version
    seen.clear()
    for columns, inputs in [(double, ["a"]), ({"b": np.zeros(40_003, np.int64)}, None)]:
        with pytest.raises(hr.Invalid, match=r"has a value of the column 'b' already.*update it"):
            table.add_columns(columns, inputs=inputs)
    assert len(seen) <= 16_384 and len(table.at()) == 40_003
    assert table.at().columns == table.at(version).columns
    with pytest.raises(hr.Invalid, match="there is a column 'b' already"):
        table.add_columns({"b": "int64"})


def test_columns_added_by_two_at_once_conflict(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"a": np.arange(5)})

    def slow(batch: hr.Batch) -> dict[str, Any]:
        table.add_columns({"b": np.arange(5)})  # somebody else is faster
        return {"b": batch["a"]}

    with pytest.raises(hr.Conflict, match="'b' was added meanwhile"):
        table.add_columns(slow, inputs=["a"])
    assert table.history(1)[0].kind == "add_columns" and list(table.columns) == ["a", "b"]


def test_columns_of_a_snapshot_s_rows(catalog: hr.Catalog) -> None:
    """Others delete and add a row while the values are made: by their order they would be other rows'."""
    table = catalog.create_table("t", {"a": np.arange(5)})
    snapshot = table.at()
    made = {"b": np.asarray(snapshot.to_arrow()["a"]) * 2}
    table.delete("a = 1")
    table.append({"a": [9]})
    table.add_columns(made, at=snapshot)
    assert table.to_arrow().to_pydict() == {"a": [0, 2, 3, 4, 9], "b": [0, 4, 6, 8, None]}
    with pytest.raises(hr.Invalid, match="rows of another table"):
        catalog.create_table("u", {"a": np.arange(5)}).add_columns(made, at=snapshot)
    with pytest.raises(TypeError, match="at= is for data"):
        table.add_columns(lambda batch: {"c": batch["a"]}, inputs=["a"], at=snapshot)


def test_looking_at_a_table(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"a": np.arange(9), "name": [str(i) for i in range(9)]})
    for looked in (table, table.at()):
        assert looked.schema == {"a": "int64", "name": "string"} and "name  string" in repr(looked.schema)
        assert pa.schema(looked.schema).names == ["a", "name"]
        assert looked.head()["a"].tolist() == [0, 1, 2, 3, 4] == looked[:5]["a"].tolist()
        assert looked[-2:]["a"].tolist() == [7, 8] and looked[::-4]["a"].tolist() == [8, 4, 0]
        assert looked[-1]["name"] == "8" and len(looked[20:]) == 0
        assert looked.to_arrow()["a"].to_pylist() == list(range(9))
        assert [row["a"] for row in looked] == list(range(9))
        with pytest.raises(IndexError):
            looked[9]
    assert "to_pylist" in repr(table.scan())


def test_time_travel_and_history(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", [{"a": 1}], why="first")
    before = datetime.datetime.now(datetime.timezone.utc)
    table.tag("golden")
    table.append([{"a": 2}], why="second")
    assert len(table.at("golden")) == 1 and len(table.at(before)) == 1 and len(table.at("v2")) == 1 and len(table) == 2
    newest = table.history(1)[0]
    assert (newest.kind, newest.rows, newest.rows_after, newest.why) == ("append", 1, 2, "second")
    assert "golden" in table.history()[-2].tags
    with pytest.raises(hr.NotFound, match="golden"):
        table.at("silver")


def test_sql_streams_joins_and_stores_with_lineage(catalog: hr.Catalog) -> None:
    catalog.create_table("a", {"k": np.arange(1000), "vec": np.random.default_rng(1).random((1000, 4), np.float32)})
    catalog.create_table("b", [{"k": 5, "name": "five"}, {"k": 7, "name": "seven"}])
    rows = catalog.sql(
        "select b.name, a._row_id, array_cosine_distance(vec, vec) as d from a join b using (k) order by 1"
    ).to_pylist()
    assert [(row["name"], row["_row_id"], round(row["d"], 5)) for row in rows] == [("five", 5, 0.0), ("seven", 7, 0.0)]
    catalog.sql("select sum(k) as total from a", into="sums")
    assert catalog["sums"].scan().to_pylist() == [{"total": 499500}]
    assert catalog["sums"].history()[0].inputs == ["a@2"]
    catalog["a"].append({"k": np.array([1])})
    assert catalog.sql('select count(*) as n from "a@v2"').to_pylist() == [{"n": 1000}]
    with pytest.raises(hr.HeadraceError, match="there is no table 'nothing'"):
        catalog.sql("select * from nothing")
    with pytest.raises(hr.HeadraceError, match="wrong"):
        catalog.sql("select wrong from a")


def test_ctrl_c_stops_a_long_call_and_nothing_is_committed(tmp_path: pathlib.Path) -> None:
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's child begins with it ignored
import headrace as hr, numpy as np, itertools, pyarrow as pa
table = hr.init({str(tmp_path / "c")!r}).create_table("t", {{"a": "int64"}})
schema = pa.schema([("a", pa.int64())])
def forever():
    print("go", flush=True)
    for i in itertools.count():
        yield pa.record_batch({{"a": np.arange(1000)}}, schema=schema)
try:
    table.append(pa.RecordBatchReader.from_batches(schema, forever()))
except KeyboardInterrupt:
    print("interrupted", len(table))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "go\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    try:
        assert process.communicate(timeout=20)[0] == "interrupted 0\n"
    finally:
        process.kill()  # it would write until the disk is full


def test_names_of_any_shape(catalog: hr.Catalog) -> None:
    for name in ("with/slash", "quote'\"s", "dots.in.it", "emoji 🙂", "..", " "):
        table = catalog.create_table(name, [{name: 1, "plain": 2}])
        assert catalog.table(name).columns == {name: "int64", "plain": "int64"}
        quoted = name.replace('"', '""')
        assert table.count(f'"{quoted}" = 1') == 1
        assert catalog.sql(f'select "{quoted}" as v from "{quoted}"').to_pylist() == [{"v": 1}], name
    for name in ("", "x" * 300, "a\nb", "_row_id"):
        with pytest.raises(hr.HeadraceError):
            catalog.create_table(name, [{"a": 1}])


def test_many_columns_and_empty_tables(catalog: hr.Catalog) -> None:
    wide = catalog.create_table("wide", pa.table({f"c{i}": [i] for i in range(1000)}))
    assert wide.take([0], ["c999"])["c999"].tolist() == [999]
    empty = catalog.create_table("empty", {"a": "int64"})
    assert len(empty) == 0 and empty.scan().to_pylist() == [] and empty.count("a > 1") == 0
    assert catalog.sql("select count(*) as n, max(a) as m from empty").to_pylist() == [{"n": 0, "m": None}]
    assert len(empty.take([])) == 0
    with pytest.raises(hr.NotFound, match="no row has the id 0"):
        empty.take([0])


def test_nan_and_infinity_are_values(catalog: hr.Catalog) -> None:
    table = catalog.create_table(
        "t", {"x": np.array([1.0, np.nan, np.inf, -np.inf]), "vec": np.array([[np.nan, np.inf]] * 4, np.float32)}
    )
    assert table.count("x > 5.0") == 2  # NaN is above every number, as in DuckDB
    assert np.isnan(table.take([0], ["vec"])["vec"][0, 0])
    assert [r["n"] for r in catalog.sql("select count(*) as n from t where x > 5.0").to_pylist()] == [2]


def test_bytes_go_in_as_they_are(catalog: hr.Catalog) -> None:
    table = catalog.create_table("files", {"name": "string", "data": "blob", "raw": "binary"})
    table.append({"name": ["a", "b"], "data": [b"one", None], "raw": [b"\x00\xff", b""]})
    table.append([{"name": "c", "data": b"three"}, {"name": "d", "raw": b"4"}])
    rows = list(table.scan())
    assert [None if row["data"] is None else bytes(row["data"]) for row in rows] == [b"one", None, b"three", None]
    assert [row["raw"] for row in rows] == [b"\x00\xff", b"", None, b"4"]
    with pytest.raises(hr.Invalid, match="type str beside bytes"):
        table.append({"data": [b"x", "y"]})


def test_an_animation_is_its_first_frame(catalog: hr.Catalog) -> None:
    """A picture that is taken in can be decoded: Pillow shows the first frame of an animated WebP too."""
    frames = [Image.new("RGBA", (33, 21), (255 - 80 * i, 40 * i, 10, 255)) for i in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    table = catalog.create_table("t", {"image": "blob"})
    table.append([{"image": out.getvalue()}])
    cell = table.take([0])[0]["image"]
    assert (cell.width, cell.height, cell.media_type) == (33, 21, "image/webp")
    expected = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB"))
    assert np.array_equal(cell.decode(), expected)
    batches = list(hr.Stream(table, ["image"], image=hr.Resize((16, 16)), batch_size=1))
    assert batches[0]["image"].shape == (1, 3, 16, 16)
    with pytest.raises(hr.Corrupt):
        hr.decode_image(out.getvalue()[: len(out.getvalue()) // 2])


def test_a_program_that_keeps_everything_ends_quietly(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    catalog.create_table("t", [{"a": 1}, {"a": 2}])
    program = """
import builtins, sys, threading, time
import headrace as hr
catalog = hr.open(sys.argv[1])
table = catalog["t"]
class Keep: pass
keep = Keep()
keep.me, keep.table, keep.reader, keep.stream = keep, table, table.scan(), hr.Stream(table, ["a"], batch_size=1)
keep.rows, keep.batch, keep.sql = iter(table.scan()), table.take([0]), catalog.sql("select 1")
next(keep.rows)
builtins.keep = sys.modules["keep"] = keep
def function(table=table): return function
threading.Thread(target=lambda table=table: time.sleep(60), daemon=True).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "catalog")], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
