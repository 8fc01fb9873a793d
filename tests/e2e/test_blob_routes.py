"""Any way out of a table and back into one brings the same bytes, or an error before the commit."""

import json
import os
import subprocess

import headrace as hr
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# Below, at and above what stays in a cell (2,048), and larger ones.
SIZES = [0, 1, 2047, 2048, 2049, 5000, 70_000, 300_000]


def content(i: int, size: int) -> bytes:
    return bytes((i * 31 + k) % 251 for k in range(size))


@pytest.fixture
def catalog(tmp_path):
    return hr.init(str(tmp_path / "c"), sync=False)


@pytest.fixture
def source(catalog):
    table = catalog.create_table("source", columns={"k": "int64", "image": "blob"})
    rows = [{"k": i, "image": content(i, size)} for i, size in enumerate(SIZES)]
    table.append([*rows, {"k": len(SIZES), "image": None}])
    return table


def bytes_of(table) -> list[bytes | None]:
    rows = sorted(table.scan(), key=lambda row: row["k"])
    return [None if row["image"] is None else bytes(row["image"]) for row in rows]


def expected() -> list[bytes | None]:
    return [content(i, size) for i, size in enumerate(SIZES)] + [None]


def test_sql_into(catalog, source):
    catalog.sql("select * from source", into="copy")
    assert bytes_of(catalog.table("copy")) == expected()
    catalog.create_table("names", [{"k": i, "name": f"n{i}"} for i in range(20)])
    catalog.sql("select s.k, name, image from source s join names using (k) order by k desc", into="joined")
    assert bytes_of(catalog.table("joined")) == expected()
    catalog.sql("select k, image as picture from joined", into="renamed")
    renamed = catalog.table("renamed").scan(where="k = 6").to_pylist()
    assert bytes(renamed[0]["picture"]) == content(6, SIZES[6])
    described = catalog.sql("select count(*) as n from renamed where picture.length > 2048").to_pylist()
    assert described == [{"n": 4}]


def test_batches_tables_and_scans(catalog, source):
    batch = source.take(list(range(len(SIZES) + 1)))
    for name, rows in {
        "of_batch": batch,
        "of_arrow": pa.table(pa.RecordBatchReader.from_stream(source.scan())),
        "of_scan": source.scan(),
        "of_sql": catalog.sql("select * from source"),
    }.items():
        made = catalog.create_table(name, rows)
        assert bytes_of(made) == expected(), name
        made.append(catalog.table("source").scan(where="k >= 5"))
        assert len(made) == len(SIZES) + 1 + len(SIZES) - 4, name
        assert bytes_of(made)[-2:] == [None, None], name


def test_more_than_is_copied_at_once(catalog, tmp_path):
    """32 MB of other tables' blobs are read at a time."""
    table = catalog.create_table("large", columns={"k": "int64", "image": "blob"})
    table.append([{"k": i, "image": content(i, 1 << 20)} for i in range(35)])
    catalog.sql("select * from large", into="copy")
    assert bytes_of(catalog.table("copy")) == [content(i, 1 << 20) for i in range(35)]
    catalog.sql("select * from large where k % 2 = 0", into="half")
    assert len(catalog.table("half")) == 18


def test_own_packs_are_shared_and_accounted_for(catalog, source, tmp_path):
    def packs() -> int:
        return sum(len(files) for folder, _, files in os.walk(tmp_path / "c") if folder.endswith("packs"))

    before = packs()
    source.append(source.take([5, 6]))
    assert packs() == before, "the bytes are not written again"
    assert sorted(len(bytes(row["image"])) for row in source.take([9, 10])) == [5000, 70_000]
    newest = min((tmp_path / "c" / "tables").glob("*/snapshots/*.json"))
    fragments = json.loads(newest.read_text())["snapshot"]["fragments"]
    assert fragments[-1]["packs"][0]["live"] == 75_000, "collection must know that they are alive"


def test_parquet_holds_the_bytes(catalog, source, tmp_path):
    file = tmp_path / "out.parquet"
    done = subprocess.run(
        ["headrace", "--catalog", str(tmp_path / "c"), "sql", "select * from source order by k", "-o", str(file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    cells = pq.read_table(file)["image"].to_pylist()
    assert [None if cell is None else cell["inline"] for cell in cells] == expected()
    other = hr.init(str(tmp_path / "elsewhere"), sync=False)
    assert bytes_of(other.create_table("back", pq.read_table(file))) == expected()
    other.ingest(str(file), table="taken")
    assert bytes_of(other.table("taken")) == expected()


def test_what_cannot_be_found_is_refused_before_the_commit(catalog, source, tmp_path):
    other = hr.init(str(tmp_path / "elsewhere"), sync=False)
    with pytest.raises(hr.HeadraceError, match="must come with their bytes"):
        other.create_table("t", source.scan())
    assert other.tables() == []
    table = other.create_table("mine", columns={"k": "int64", "image": "blob"})
    with pytest.raises(hr.HeadraceError, match="must come with their bytes"):
        table.append(source.scan())
    assert len(table) == 0
    for place in ("", "nonsense", "../../etc/passwd", "0" * 32, "0" * 32 + "/" + "1" * 32):
        cell = {name: None for name in ("uri", "media_type", "width", "height", "orientation", "inline", "checksum")}
        rows = pa.table({"k": [1], "image": [{**cell, "pack": place, "offset": 0, "length": 10}]})
        with pytest.raises(hr.HeadraceError):
            table.append(rows)
        assert len(table) == 0, place
    with pytest.raises(hr.HeadraceError, match="column of its own"):
        catalog.sql("select k, [image] as images from source", into="nested")
    assert "nested" not in catalog.tables()


def test_the_place_means_the_same_in_filters_and_sql(catalog, source):
    place = catalog.sql("select image.pack as p from source where k = 6").to_pylist()[0]["p"]
    query = f"select k from source where image.pack = '{place}' order by k"
    found = [row["k"] for row in catalog.sql(query).to_pylist()]
    assert 6 in found
    where = f"image.pack = '{place}'"
    assert sorted(row["k"] for row in source.scan(columns=["k"], where=where).to_pylist()) == found
