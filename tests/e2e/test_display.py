"""What a person sees who looks: notebooks' pictures and tables, and hints for names that are not there."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from pathlib import Path

import headrace as hr
import numpy as np
import pytest
from PIL import Image
from test_python import jpeg


@pytest.fixture
def photos(catalog: hr.Catalog) -> hr.Table:
    table = catalog.create_table("photos", {"path": "string", "image": "blob", "vec": "tensor<float32>[8]"})
    count = 25
    table.append(
        {
            "path": [f"<b>{i}</b>.jpg" for i in range(count)],
            "image": [jpeg(700, 300), b"no picture", None, *[jpeg(20, 10)] * (count - 3)],
            "vec": np.arange(count * 8, dtype=np.float32).reshape(count, 8),
        }
    )
    return table


def test_tables_show_some_rows_with_thumbnails(photos: hr.Table, catalog: hr.Catalog) -> None:
    shown = photos._repr_html_()
    assert "photos, version 2: 25 rows" in shown and "<small>tensor&lt;float32&gt;[8]</small>" in shown
    assert "&lt;b&gt;0&lt;/b&gt;.jpg" in shown and "<b>" not in shown
    assert shown.count("<img src=") == 8 and "15 more rows" in shown  # ten rows, of which two have no picture
    assert "float32 (8,) [0.0, 1.0, 2.0, 3.0, …]" in shown and "<i>null</i>" in shown
    assert photos.at("v2")._repr_html_().startswith("<table><caption>version 2: 25 rows")
    assert photos[:3]._repr_html_().count("<tr>") == 4
    assert "more rows" not in photos[:3]._repr_html_()
    row = photos[0]._repr_html_()
    assert row.count("<img") == 1 and "<th>vec</th>" in row
    wide = catalog.create_table("wide", {f"c{i}": "int64" for i in range(30)})
    assert "10 more columns" in wide._repr_html_()
    wide.append([{"c1": 1}])
    assert "10 more columns" in wide[0]._repr_html_()
    # Rows of SQL have facts of pictures, not their bytes.
    next(catalog.sql("select * from photos").batches())._repr_html_()


def test_cells_are_pictures(photos: hr.Table) -> None:
    cell = photos[0]["image"]
    shown = Image.open(io.BytesIO(cell._repr_png_()))
    assert shown.format == "PNG" and shown.size == (350, 150)
    exact = np.asarray(Image.open(io.BytesIO(photos[3]["image"]._repr_png_())))
    assert np.array_equal(exact, photos[3]["image"].decode())
    assert photos[1]["image"]._repr_png_() is None
    small = re.search(r'base64,([^"]+)"', photos[0]._repr_html_())
    assert small


def test_a_damaged_picture_is_shown_as_what_it_claims(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"image": "blob"})
    whole = jpeg(300, 200)
    table.append({"image": [whole[: len(whole) // 2] + b"\0" * 100 + b"\xff\xd9"]})
    assert table[0]["image"]._repr_png_() is None
    assert "300×200" in table._repr_html_()


def test_readers_say_what_they_are(photos: hr.Table, catalog: hr.Catalog) -> None:
    assert repr(photos.scan(["path"])).startswith("<Reader of path: rows to iterate over once")
    assert catalog.sql("select 1 as a, 2 as b").columns == ["a", "b"]


@pytest.mark.parametrize(
    ("thing", "name", "told"),
    [
        ("table", "scam", "Table has no attribute 'scam'; did you mean scan?"),
        ("table", "shape", "len(table)"),
        ("table", "filter", "scan(where='…')"),
        ("table", "zzz", "it has add_column, add_columns, append, at"),
        ("snapshot", "cuont", "did you mean count?"),
        ("catalog", "create_tabel", "did you mean create_table?"),
        ("catalog", "execute", "sql('…')"),
        ("row", "path", "'path' is a column: row['path']"),
        ("batch", "vec", "'vec' is a column: batch['vec']"),
        ("batch", "to_nump", "did you mean to_numpy?"),
        ("blob", "decodee", "did you mean decode?"),
        ("reader", "fetchall", "to_pylist()"),
        ("stream", "set_epoch", "restart(epoch)"),
        ("stream", "epoch_s", "did you mean epochs?"),
    ],
)
def test_attributes_that_are_not_there(photos: hr.Table, catalog: hr.Catalog, thing: str, name: str, told: str) -> None:
    things = {
        "table": photos,
        "snapshot": photos.at(),
        "catalog": catalog,
        "row": photos[0],
        "batch": photos[:2],
        "blob": photos[0]["image"],
        "reader": photos.scan(),
        "stream": hr.Stream(photos, ["path"]),
    }
    with pytest.raises(AttributeError) as raised:
        getattr(things[thing], name)
    assert told in str(raised.value)
    assert not hasattr(things[thing], "_ipython_display_") and not hasattr(things[thing], "__array_interface__")


def test_what_has_hints_still_pickles(photos: hr.Table, catalog: hr.Catalog) -> None:
    for thing in (photos, photos.at(), catalog, photos[0]["image"], hr.Stream(photos, ["path"])):
        assert type(pickle.loads(pickle.dumps(thing))) is type(thing)


def test_lists_of_one_length_may_be_tensors(catalog: hr.Catalog, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table({"id": [1, 2, 3], "vec": pa.array([[1.0, 2.0], [3.0, 4.0], None], pa.list_(pa.float32()))})
    pq.write_table(rows, tmp_path / "rows.parquet")
    rows = pq.read_table(tmp_path / "rows.parquet")
    with pytest.warns(UserWarning, match=r"types=\{'vec': 'tensor<float32>\[2\]'\}"):
        assert catalog.create_table("lists", rows).columns["vec"] == "list<float32>"
    tensors = catalog.create_table("tensors", rows, types={"vec": "tensor<float32>[2]"})
    assert tensors.columns == {"id": "int64", "vec": "tensor<float32>[2]"}
    assert tensors.take([0, 1], ["vec"])["vec"].tolist() == [[1, 2], [3, 4]] and tensors[2]["vec"] is None
    with pytest.raises(hr.Invalid, match="no column 'vek'; they have id, vec"):
        catalog.create_table("wrong", rows, types={"vek": "tensor<float32>[2]"})
    with pytest.raises(hr.Invalid, match="vec"):
        catalog.create_table("wrong", rows, types={"vec": "tensor<float32>[3]"})
    assert catalog.tables() == ["lists", "tensors"]
    ragged = pa.table({"vec": pa.array([[1.0], [3.0, 4.0]], pa.list_(pa.float32()))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        catalog.create_table("ragged", ragged)
    distance = "select array_cosine_distance(a.vec, b.vec) as d from {0} a, {0} b where a.id = 1 and b.id = 2"
    assert catalog.sql(distance.format("tensors")).to_pylist()[0]["d"] == pytest.approx(0.01613, abs=1e-4)
    with pytest.raises(hr.Invalid, match=r"list_cosine_distance\(…\) takes lists.*vec::FLOAT"):
        catalog.sql(distance.format("lists"))
    catalog.sql("select * replace (vec::FLOAT[2] as vec) from lists", into="vectors")
    assert catalog["vectors"].columns["vec"] == "tensor<float32>[2]"
    assert catalog.sql(distance.format("lists").replace("array_", "list_")).to_pylist()[0]["d"] > 0


def test_arrays_in_rows_are_tensors_when_appended_too(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", [{"vec": np.zeros(4, np.float32)}])
    assert table.columns == {"vec": "tensor<float32>[4]"}
    table.append([{"vec": np.ones(4, np.float32)}, {"vec": None}])
    assert table[1]["vec"].tolist() == [1, 1, 1, 1] and table[2]["vec"] is None


def test_a_catalog_that_is_not_there_is_told_with_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_CATALOG", raising=False)
    with pytest.raises(hr.NotFound, match=r"or above it; make one with hr.init\(\)"):
        hr.open()
    with pytest.raises(hr.NotFound, match=r"no folder nowhere; hr.open\('nowhere', create=True\)"):
        hr.open("nowhere")
    with pytest.raises(hr.NotFound, match="no Headrace catalog in"):
        hr.open(tmp_path)
