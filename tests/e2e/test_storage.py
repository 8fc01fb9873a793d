"""What is known of columns without reading them, where a table's bytes lie, and its history drawn."""

from __future__ import annotations

import datetime
import io
import json
import pathlib
import pickle
import subprocess
from collections.abc import Callable

import headrace as hr
import numpy as np
import pyarrow as pa
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (8, 8), shade).save(out, "png")
    return out.getvalue() + bytes(5000)


def test_columns_are_described(catalog: hr.Catalog) -> None:
    day, time = datetime.date(2026, 11, 22), datetime.datetime(2026, 11, 22, 8, 15, tzinfo=datetime.timezone.utc)
    table = catalog.create_table(
        "t",
        pa.table(
            {
                "n": [3, None, 1],
                "s": ["b", "a", None],
                "day": [day] * 3,
                "when": pa.array([time] * 3, pa.timestamp("us", "UTC")),
                "ok": [True, False, None],
                "vec": [[1.0], [2.0], None],
            }
        ),
    )
    facts = {column.name: column for column in table.describe()}
    assert facts["n"] == hr.ColumnFacts("n", "int64", 1, 1, 3, True)
    assert (facts["s"].min, facts["s"].max, facts["s"].nulls) == ("a", "b", 1)
    assert facts["day"].min == day and facts["when"].max == time and facts["ok"].min is False
    assert facts["vec"].nulls is None
    table.delete("n = 3")
    assert not table.describe()[0].exact and "≤ 1" in repr(table.describe())
    assert table.at(2).describe()[0].exact
    assert repr(table.describe()).splitlines()[0].split() == ["column", "type", "nulls", "min", "max"]
    assert "<table" in table.describe()._repr_html_()
    assert pickle.loads(pickle.dumps(table.describe()))[0].name == "n"
    photos = catalog.create_table("photos", {"image": "blob"})
    photos.append([{"image": _picture(1)}])
    assert {"image", "image.width"} <= {column.name for column in photos.describe()}
    assert next(c for c in photos.describe() if c.name == "image.length").min == len(_picture(1))


def _objects(catalog: hr.Catalog) -> int:
    """Bytes of all objects of the catalog's tables, as the file system has them."""
    root = pathlib.Path(catalog.location) / "tables"
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_every_byte_is_held_by_something(catalog: hr.Catalog, headrace: Run) -> None:
    rng = np.random.default_rng(1)
    table = catalog.create_table(
        "t", {"k": np.arange(3000), "x": rng.random(3000), "vec": rng.random((3000, 32), np.float32)}
    )
    table.add_columns({"image": "blob"})
    for _ in range(3):
        table.append([{"k": -1, "x": 0.5, "image": _picture(i)} for i in range(20)])
    table.update({"x": 2.0}, "k % 100 = 7")
    table.update(lambda batch: {"x": -batch["x"]}, "true", inputs=["x"], columns=["x"])
    table.delete("k % 5 = 0")
    table.drop_column("vec")
    table.compact()
    list(hr.Stream(table, ["k"], where="k > 5", batch_size=64))
    storage = table.storage()
    assert storage.total.bytes == _objects(catalog)
    assert storage.unnamed.objects == 0
    assert storage.older.bytes > 3000 * 32 * 4, "the vectors are in older versions only"
    assert set(storage.columns) == {"k", "x", "image"}
    # What the newest version holds are its columns, its media and what they need beside them.
    beside = storage.newest.bytes - sum(storage.columns.values()) - storage.packs.bytes
    assert storage.indexes <= beside < storage.indexes + 50_000
    assert storage.packs.bytes >= storage.packs_live == 3 * sum(len(_picture(i)) for i in range(20))
    # Expiring all versions but the newest frees what older ones hold.
    assert sum(storage.used_last_by.values()) == storage.older.bytes
    stray = pathlib.Path(catalog.location) / table.at()._view.prefix / "data" / ("0" * 32 + ".parquet")
    stray.write_bytes(bytes(1000))
    assert hr.open(catalog.location)["t"].storage().unnamed == hr.Amount(1, 1000)
    shown = headrace("--catalog", catalog.location, "du", "t").stdout
    assert "the newest version" in shown and "left behind" in shown and "frees with all before" in shown
    whole = json.loads(headrace("--catalog", catalog.location, "--json", "du", "t").stdout)
    assert whole["older"] == storage.older._asdict() and whole["total"]["bytes"] == _objects(catalog)
    line, beside = map(json.loads, headrace("--catalog", catalog.location, "--json", "du").stdout.splitlines())
    assert line["table"] == "t" and line["total"] == whole["total"]
    nothing = {"objects": 0, "bytes": 0}
    assert beside == {"dropped": nothing, "models": nothing, "artifacts": nothing}
    assert headrace("--catalog", catalog.location, "du").stdout.splitlines()[1].startswith("t ")
    catalog.create_table("other", {"k": [1]})
    bytes_of_both = _objects(catalog)
    catalog.drop_table("t")
    beside = json.loads(headrace("--catalog", catalog.location, "--json", "du").stdout.splitlines()[-1])
    assert beside["dropped"]["bytes"] == bytes_of_both - catalog["other"].storage().total.bytes
    assert "(dropped tables)" in headrace("--catalog", catalog.location, "du").stdout


def test_columns_of_a_version_have_sizes(catalog: hr.Catalog, headrace: Run) -> None:
    rng = np.random.default_rng(2)
    table = catalog.create_table("t", {"small": np.zeros(5000, np.int64), "noise": rng.random(5000)})
    table.update({"small": 3}, "noise < 0.001")
    location = ["--catalog", catalog.location]
    plain = headrace(*location, "describe", "t", "--storage")
    assert plain.returncode == 0, plain.stderr
    assert "1 fragment of 5,000 rows" in plain.stdout and "headrace compact" in plain.stdout
    storage = json.loads(headrace(*location, "--json", "describe", "t", "--storage").stdout)["storage"]
    small, noise = storage["columns"]
    assert 5000 * 8 <= noise["bytes"] < 5000 * 9 and small["bytes"] > 0
    assert small["rows_in_updates"] == table.count("small = 3") and small["bytes_in_updates"] > 0
    assert storage["fragments"]["count"] == 1 and storage["fragments"]["updates"] == 1
    assert (
        json.loads(headrace(*location, "--json", "describe", "t@v2", "--storage").stdout)["storage"]["fragments"][
            "updates"
        ]
        == 0
    )


def test_the_log_draws_what_restores_left_behind(catalog: hr.Catalog, headrace: Run) -> None:
    table = catalog.create_table("t", {"k": [1, 2, 3]})
    table.delete("k = 1")
    table.restore(2)
    table.delete("k = 2")
    table.update({"k": 9}, "k = 3")
    table.restore(5)
    table.tag("end")
    shown = headrace("--catalog", catalog.location, "log", "t", "--graph").stdout.splitlines()
    assert shown[0].split() == ["version", "time", "(UTC)", "rows", "written", "what", "who", "why"]
    graph = [line[:3].rstrip() + " " + "".join(line[3:].split()[:1]) for line in shown[1:]]
    assert graph == ["* 8", "* 7", "| o 6", "|/ ", "* 5", "* 4", "| o 3", "|/ ", "* 2", "* 1"]
    few = headrace("--catalog", catalog.location, "log", "t", "--graph", "-n", "3").stdout
    assert [line[:3].rstrip() for line in few.splitlines()[1:]] == ["*", "*", "| o"]
