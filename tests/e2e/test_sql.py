"""SQL: values that are bound, names, types that DuckDB lacks, and errors that say what to do."""

from __future__ import annotations

import datetime
import io
import json
import pathlib
import subprocess
from collections.abc import Callable

import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_parameters_are_values_and_never_text_of_the_query(catalog: hr.Catalog) -> None:
    day = datetime.date(2026, 1, 2)
    catalog.create_table("t", pa.table({"i": [1, 2], "s": ["a", "x' or true --"], "d": [day, None], "f": [0.5, 1.5]}))

    def ids(where: str, params: object) -> list[int]:
        return [row["i"] for row in catalog.sql(f"select i from t where {where} order by i", params)]

    assert ids("s = ?", ["x' or true --"]) == [2]
    assert ids("i >= ? and f < ?", [1, 1.0]) == [1]
    assert ids("i = $one or s = $text", {"one": np.int64(1), "text": "x' or true --"}) == [1, 2]
    assert ids("d = $day", {"day": day}) == [1]
    assert ids("s is distinct from $nothing", {"nothing": None}) == [1, 2]
    with pytest.raises(hr.Invalid, match="two"):
        ids("i = $one", {"one": 1, "two": 2})
    with pytest.raises(TypeError, match="SQL takes text"):
        ids("s = ?", [b"x"])
    assert catalog.sql("select i from t where i = ?", [2], into="u").rows == 1


def test_parameters_on_the_command_line(headrace: Run, tmp_path: pathlib.Path) -> None:
    hr.init(tmp_path / ".headrace", sync=False).create_table("t", pa.table({"i": [1, 2], "s": ["a=b", "007"]}))

    def ids(where: str, *params: str) -> list[int]:
        words = [word for value in params for word in ("--param", value)]
        result = headrace("--json", "sql", f"select i from t where {where}", *words)
        assert result.returncode == 0, result.stderr
        return [json.loads(line)["i"] for line in result.stdout.splitlines()]

    assert ids("i = $x", "x=2") == [2]
    assert ids("s = $x", "x=a=b") == [1]
    assert ids("s = $x", "x=007") == [2]
    assert ids("i = ? and s = ?", "1", '"a=b"') == [1]


def test_columns_of_one_name_are_told_apart(catalog: hr.Catalog) -> None:
    catalog.create_table("a", pa.table({"id": [1], "x": [2]}))
    catalog.create_table("b", pa.table({"id": [1], "x": [3]}))
    rows = catalog.sql("select *, 4 as id_1 from a join b on a.id = b.id").to_pylist()
    assert rows == [{"id": 1, "x": 2, "id_2": 1, "x_1": 3, "id_1": 4}]
    assert catalog.sql("select 1 as v, 2 as v", into="c").rows == 1
    assert catalog["c"].scan().to_pylist() == [{"v": 1, "v_1": 2}]


def test_float16_is_float32_in_sql(catalog: hr.Catalog) -> None:
    half = pa.array(np.array([0.5, 0.1, np.nan], np.float16))
    table = pa.table({"h": half, "l": pa.array([[np.float16(1.5)], None, []], pa.list_(pa.float16()))})
    catalog.create_table("t", table)
    assert catalog.sql("select h, l from t").to_pylist()[0] == {"h": 0.5, "l": [1.5]}
    assert [row["h"] for row in catalog.sql("select * from t where h > 0.4 and not isnan(h)")] == [0.5]
    assert catalog["t"].count("h > 0.4 and not isnan(h)") == 1


def test_blob_checksums_can_be_asked_about(catalog: hr.Catalog) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "png")
    table = catalog.create_table("t", {"n": "int64", "image": "blob"})
    table.append([{"n": n, "image": picture.getvalue() + bytes([n])} for n in range(40)])
    assert catalog.sql("select count(*) as n from t where image.checksum is not null").to_pylist() == [{"n": 40}]
    assert len(list(catalog.sql("select * from t where image.checksum is not null"))) == 40
    assert table.count("image.checksum is not null") == 40
    largest = catalog.sql("select max(image.checksum) as c from t").to_pylist()[0]["c"]
    assert largest > 2**63
    assert table.count(f"image.checksum = {largest}") == 1


def test_intervals_are_words_in_json(headrace: Run) -> None:
    headrace("init")
    query = "select interval '14 months 3 days 04:05:06.5' as a, interval '-1 second' as b, interval '0 day' as c"
    result = headrace("--json", "sql", query)
    assert json.loads(result.stdout) == {"a": "1 year 2 months 3 days 04:05:06.5", "b": "-00:00:01", "c": "00:00:00"}


def test_names_that_need_quotes_say_so(catalog: hr.Catalog) -> None:
    catalog.create_table("photos", pa.table({"i": [1]}))
    catalog.create_table("order", pa.table({"i": [1]}))
    with pytest.raises(hr.Invalid, match='double quotes: "photos@v2"'):
        catalog.sql("select * from photos@v2")
    with pytest.raises(hr.Invalid, match='in double quotes, "order"'):
        catalog.sql("select * from order")
    assert len(list(catalog.sql('select * from "order", "photos@v2"'))) == 1


def test_errors_keep_their_kind_on_the_way_through_sql(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", pa.table({"i": list(range(1000)), "s": [str(i) * 50 for i in range(1000)]}))
    with pytest.raises(hr.NotFound):
        catalog.sql("select * from nothing_here")
    for path, _, _ in table.at().files():
        data = bytearray(pathlib.Path(path).read_bytes())
        data[len(data) // 3] ^= 0xFF
        pathlib.Path(path).chmod(0o644)
        pathlib.Path(path).write_bytes(bytes(data))
    again = hr.open(catalog.location)
    with pytest.raises(hr.Corrupt):
        list(again.sql("select i, s from t"))
    with pytest.raises(hr.Corrupt):
        again.sql("select i, s from t", into="copy")


def test_a_query_beyond_its_memory_is_a_limit(catalog: hr.Catalog) -> None:
    catalog.create_table("t", [{"a": i} for i in range(1000)])
    query = "select list(x.a + y.a * z.a) as l from t x, t y, (select a from t limit 20) z"
    with pytest.raises(hr.LimitExceeded, match="allocate"):
        catalog.sql(query, memory="50MB").to_pylist()
    with pytest.raises(hr.LimitExceeded, match="allocate"):
        catalog.sql(query, memory="50MB", into="copy")
    assert catalog.tables() == ["t"]


def test_files_are_closed_to_statements(
    catalog: hr.Catalog, tmp_path: pathlib.Path, headrace: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nhidden\n")
    catalog.create_table("words", pa.table({"word": ["a", "b"]}))
    other = str(tmp_path / "other.db")
    reaching = [
        f"select * from read_text('{secret}')",
        f"select * from read_blob('{secret}')",
        f"select * from '{secret}'",
        f"select * from read_csv('{secret}') join words using (word)",
        f"select * from glob('{tmp_path}/*')",
        f"select (select content from read_text('{secret}')), word from words",
        f"copy words to '{tmp_path}/out.csv'",
        f"attach '{other}'",
        f"export database '{tmp_path}/all'",
        "select * from read_parquet('http://127.0.0.1:9/x.parquet')",
        "load httpfs",
        "install httpfs",
        f"set temp_directory = '{tmp_path}/t'",
        f"set allowed_paths = ['{secret}']",
        "set enable_external_access = true",
    ]
    for query in reaching:
        with pytest.raises(hr.HeadraceError):
            list(catalog.sql(query))
    before = {path.name for path in tmp_path.iterdir()}
    assert not before & {"out.csv", "other.db", "all", "t"}
    with pytest.raises(hr.HeadraceError, match="allow_files=True"):
        list(catalog.sql(reaching[0]))
    assert catalog.sql(reaching[0], allow_files=True).to_pylist()[0]["content"] == "word\nhidden\n"
    told = headrace("--catalog", catalog.location, "sql", reaching[0])
    assert told.returncode != 0 and "--allow-files" in told.stderr and "hidden" not in told.stdout
    assert "hidden" in headrace("--catalog", catalog.location, "sql", reaching[0], "--allow-files").stdout
    # Results go to the file that the person named, and only there.
    for name in ("out.csv", "it's.parquet", "o.jsonl"):
        file = tmp_path / name
        words = ("--catalog", catalog.location, "sql")
        assert headrace(*words, "select * from words", "-o", str(file)).returncode == 0 and file.stat().st_size > 0
        file.unlink()
        assert headrace(*words, f"select * from '{secret}'", "-o", str(file)).returncode != 0 and not file.exists()
