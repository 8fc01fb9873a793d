"""What is taken in, once: by its place and its bytes, whatever it is called and however often it is tried."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from test_python import jpeg

Run = Callable[..., subprocess.CompletedProcess[str]]


def ingest(headrace: Run, *words: str) -> dict[str, Any]:
    out = headrace("ingest", *words, "--json")
    assert out.returncode == 0, out.stderr
    report: dict[str, Any] = json.loads(out.stdout)
    return report


def count(headrace: Run, table: str) -> int:
    return int(json.loads(headrace("sql", f"select count(*) as n from {table}", "--json").stdout)["n"])


def test_equal_names_in_two_folders_are_two_photographs(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    for i, kind in enumerate(("cat", "dog")):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        (tmp_path / "pets" / kind / "001.jpg").write_bytes(jpeg(100 + i, 50))
    assert ingest(headrace, "pets/cat", "-t", "pets")["rows"] == 1
    assert ingest(headrace, "pets/dog", "-t", "pets")["rows"] == 1
    # The same files by other ways there: both are known.
    assert ingest(headrace, "pets", "-t", "pets")["skipped"] == 2
    assert ingest(headrace, str(tmp_path / "pets" / ".." / "pets" / "cat" / "001.jpg"), "-t", "pets")["skipped"] == 1
    assert count(headrace, "pets") == 2


def test_changed_files_are_told_and_taken_by_choice(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(jpeg(100, 50))
    (tmp_path / "d.csv").write_text("a\n1\n")
    for source in ("p", "d.csv"):
        table = source[0]
        ingest(headrace, source, "-t", table)
        if source == "p":
            (tmp_path / "p" / "a.jpg").write_bytes(jpeg(101, 50))
        else:
            (tmp_path / "d.csv").write_text("a\n1\n2\n")
        told = ingest(headrace, source, "-t", table)
        assert told["rows"] == 0 and len(told["changed"]) == 1
        assert "changed since" in headrace("ingest", source, "-t", table).stdout
        added = ingest(headrace, source, "-t", table, "--on-change", "add")
        assert added["files"] == 1 and len(added["changed"]) == 1
        assert ingest(headrace, source, "-t", table)["changed"] == []
        # A new time of change alone changes nothing.
        os.utime(tmp_path / ("p/a.jpg" if source == "p" else "d.csv"), (1, 1))
        same = ingest(headrace, source, "-t", table, "--on-change", "add")
        assert same["rows"] == 0 and same["skipped"] == 1 and same["changed"] == []
    assert count(headrace, "p") == 2 and count(headrace, "d") == 3
    assert headrace("ingest", "p", "-t", "p", "--on-change", "guess").returncode == 2


def test_changed_files_replace_their_rows(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "d").mkdir()
    for name in "abc":
        (tmp_path / "d" / f"{name}.csv").write_text("k\n" + "".join(f"{name}{i}\n" for i in range(3)))
    ingest(headrace, "d", "-t", "d")
    (tmp_path / "p").mkdir()
    for i in range(3):
        (tmp_path / "p" / f"{i}.jpg").write_bytes(jpeg(100 + i, 50))
    ingest(headrace, "p", "-t", "p")
    catalog = hr.open(tmp_path / ".headrace")

    def keys() -> list[str]:
        return [row["k"] for row in catalog["d"]]

    # Some rows may be gone, and the fragments be written anew.
    (tmp_path / "d" / "b.csv").write_text("k\nB0\nB1\n")
    headrace("delete", "d", "--where", "k = 'b1'", "--yes")
    catalog["d"].compact()
    done = ingest(headrace, "d", "-t", "d", "--on-change", "replace")
    assert done["rows"] == 2 and done["replaced"] == 1 and len(done["changed"]) == 1
    assert keys() == ["a0", "a1", "a2", "c0", "c1", "c2", "B0", "B1"]
    # Again, of what is in the last version of it; one that vanishes altogether, too.
    (tmp_path / "d" / "b.csv").write_text("k\nC\n")
    (tmp_path / "d" / "a.csv").write_text("k\nA\n")
    headrace("delete", "d", "--where", "k like 'a%'", "--yes")
    assert "the earlier rows of 2 went" in headrace("ingest", "d", "-t", "d", "--on-change", "replace").stdout
    assert keys() == ["c0", "c1", "c2", "A", "C"]
    assert ingest(headrace, "d", "-t", "d", "--on-change", "replace")["rows"] == 0

    (tmp_path / "p" / "1.jpg").write_bytes(jpeg(200, 50))
    assert ingest(headrace, "p", "-t", "p", "--on-change", "replace")["replaced"] == 1
    assert [row["image.width"] for row in catalog["p"].scan(["image.width"]).to_pylist()] == [100, 102, 200]
    assert catalog["p"].verify()


def test_several_processes_replace_a_file_once(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "d.csv").write_text("k\n" + "".join(f"{i}\n" for i in range(100)))
    ingest(headrace, "d.csv", "-t", "d")
    (tmp_path / "d.csv").write_text("k\n" + "".join(f"{i}\n" for i in range(1000, 1050)))
    words = ["headrace", "ingest", "d.csv", "-t", "d", "--on-change", "replace", "--json"]
    running = [subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    done = [json.loads(one.communicate()[0]) for one in running]
    assert sum(one["replaced"] for one in done) == 1, done
    assert [row["k"] for row in hr.open(tmp_path / ".headrace")["d"]] == list(range(1000, 1050))


def test_equal_bytes_under_another_name_are_told(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(jpeg(100, 50))
    (tmp_path / "p" / "b.jpg").write_bytes(jpeg(100, 50))
    first = ingest(headrace, "p", "-t", "p")
    assert first["rows"] == 2
    assert [(pair["path"], pathlib.Path(pair["as"]).name) for pair in first["same_bytes"]] == [("b.jpg", "a.jpg")]
    shutil.copy(tmp_path / "p" / "a.jpg", tmp_path / "c.jpg")
    assert ingest(headrace, "c.jpg", "-t", "p")["same_bytes"][0]["path"] == "c.jpg"


def noise(seed: int) -> bytes:
    """A picture that is too large to lie in its row."""
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def packed(folder: pathlib.Path) -> int:
    return sum(pack.stat().st_size for pack in folder.rglob("*.pack"))


def test_copies_share_bytes_or_stay_out_by_choice(headrace: Run, tmp_path: pathlib.Path) -> None:
    """In the same run and in a later one; of rows that were deleted nothing is shared, and what is shared outlives its first row."""
    headrace("init")
    (tmp_path / "p").mkdir()
    pictures = [noise(seed) for seed in range(3)]
    for number, picture in enumerate(pictures):
        (tmp_path / "p" / f"{number}.jpg").write_bytes(picture)
    shutil.copy(tmp_path / "p" / "0.jpg", tmp_path / "p" / "0-copy.jpg")
    first = ingest(headrace, "p", "-t", "p", "--on-copy", "link")
    assert first["rows"] == 4 and len(first["same_bytes"]) == 1
    catalog = tmp_path / ".headrace"
    assert packed(catalog) == sum(map(len, pictures)), "equal bytes of one run are there once"
    table = hr.open(catalog)["p"]
    table.delete("path = '2.jpg'")
    (tmp_path / "q").mkdir()
    for number, picture in enumerate(pictures):
        (tmp_path / "q" / f"again{number}.jpg").write_bytes(picture)
    skipped = ingest(headrace, "q", "-t", "p", "--on-copy", "skip")
    assert skipped["rows"] == 1 and len(skipped["same_bytes"]) == 2, "the bytes of a deleted row are not there"
    linked = ingest(headrace, "q", "-t", "p", "--on-copy", "link")
    assert linked["rows"] == 2 and linked["bytes"] < len(pictures[0]), linked
    before = {row["path"]: row["image"].read() for row in table.scan()}
    assert before["again0.jpg"] == pictures[0] and before["again1.jpg"] == pictures[1]
    table.delete("path = '0.jpg' or path = '1.jpg'", purge=True)
    table.compact()
    time.sleep(0.01)
    table.gc(keep="0s", grace="0s")
    after = {row["path"]: row["image"].read() for row in table.scan()}
    assert after == {path: data for path, data in before.items() if path not in ("0.jpg", "1.jpg")}
    assert all(hr.open(catalog).verify())
    (tmp_path / "d.csv").write_text("a\n1\n")
    assert "is for photographs" in headrace("ingest", "d.csv", "-t", "d", "--on-copy", "link").stderr


def test_a_copy_is_what_the_table_has_when_the_run_is_over(headrace: Run, tmp_path: pathlib.Path) -> None:
    """Not what was taken in once: rows go, change, are replaced by the same run, or came without a file."""
    headrace("init")
    catalog = hr.open(tmp_path / ".headrace")

    def folder(name: str, **pictures: int) -> str:
        (tmp_path / name).mkdir(exist_ok=True)
        for path, seed in pictures.items():
            (tmp_path / name / f"{path}.jpg").write_bytes(noise(seed))
        return name

    def paths(table: str) -> list[str]:
        return sorted(row["path"].removesuffix(".jpg") for row in catalog[table].scan(["path"]))

    # One of two equal ones is left.
    for gone, left in ("ab", "ba"):
        ingest(headrace, folder("p", a=1, b=1), "-t", f"p{gone}")
        catalog[f"p{gone}"].delete(f"path = '{gone}.jpg'")
        told = ingest(headrace, folder("q", c=1), "-t", f"p{gone}", "--on-copy", "skip")
        assert paths(f"p{gone}") == [left] and pathlib.Path(told["same_bytes"][0]["as"]).stem == left
    # The picture has other bytes now.
    ingest(headrace, folder("u", a=1), "-t", "u")
    catalog["u"].update({"image": noise(2)}, "path = 'a.jpg'")
    ingest(headrace, folder("q", c=1), "-t", "u", "--on-copy", "skip")
    assert paths("u") == ["a", "c"]
    # A picture moves to another name, and a new one takes its place.
    for order, (old, new) in enumerate((("a", "b"), ("b", "a"))):
        table = f"r{order}"
        ingest(headrace, folder(table, **{old: 1}), "-t", table)
        folder(table, **{old: 2, new: 1})
        done = ingest(headrace, table, "-t", table, "--on-change", "replace", "--on-copy", "skip")
        assert done["replaced"] == 1 and paths(table) == ["a", "b"], order
        assert sorted(row["image"].read() for row in catalog[table].scan(["image"])) == sorted([noise(1), noise(2)])
    # A new time of change alone moves nothing.
    ingest(headrace, folder("s", a=1), "-t", "s")
    folder("s", a=1, b=1)
    os.utime(tmp_path / "s" / "a.jpg", (1, 1))
    ingest(headrace, "s", "-t", "s", "--on-change", "replace", "--on-copy", "skip")
    assert paths("s") == ["a"]
    # Rows that no file became.
    catalog.sql("select * from s", into="t")
    done = ingest(headrace, folder("q", c=1), "-t", "t", "--on-copy", "skip")
    assert paths("t") == ["a"] and done["same_bytes"][0]["as"] == "row 0"
    assert ingest(headrace, "q", "-t", "t", "--on-copy", "link")["bytes"] < len(noise(1))
    assert (
        "in the table already" not in headrace("ingest", folder("v", a=5, b=5), "-t", "v", "--on-copy", "skip").stdout
    )


def test_data_files_change_places(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("k\n1\n")
    ingest(headrace, "d", "-t", "d")
    (tmp_path / "d" / "a.csv").rename(tmp_path / "d" / "b.csv")
    (tmp_path / "d" / "a.csv").write_text("k\n2\n")
    ingest(headrace, "d", "-t", "d", "--on-change", "replace", "--on-copy", "skip")
    catalog = hr.open(tmp_path / ".headrace")
    assert sorted(row["k"] for row in catalog["d"]) == [1, 2]
    # A file that has no rows any more.
    (tmp_path / "d" / "b.csv").write_text("k\n")
    done = ingest(headrace, "d", "-t", "d", "--on-change", "replace")
    assert done["replaced"] == 1 and [row["k"] for row in catalog["d"]] == [2]
    assert ingest(headrace, "d", "-t", "d", "--on-change", "replace")["changed"] == []
    (tmp_path / "d" / "b.csv").write_text("k\n3\n")
    assert ingest(headrace, "d", "-t", "d", "--on-change", "replace")["rows"] == 1
    assert sorted(row["k"] for row in catalog["d"]) == [2, 3] and catalog["d"].verify()


def test_vectors_of_other_programs_are_offered_as_tensors(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    floats = pa.list_(pa.float32())
    rows = {"v": pa.array([[1, 2], None, [3, 4]], floats), "w": pa.array([[1], [1, 2], []], floats)}
    pq.write_table(pa.table(rows), tmp_path / "v.parquet")
    notices = ingest(headrace, "v.parquet", "-t", "v")["notices"]
    assert len(notices) == 1 and '--type "v=tensor<float32>[2]"' in notices[0]
    assert ingest(headrace, "v.parquet", "-t", "v", "--again")["notices"] == [], "the table has its columns"
    assert ingest(headrace, "v.parquet", "-t", "w", "--type", "v=tensor<float32>[2]")["notices"] == []
    assert hr.open(tmp_path / ".headrace")["w"].columns["v"] == "tensor<float32>[2]"


def test_names_that_are_not_text_stay_apart(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "p").mkdir()
    names = [
        b"x\xff.jpg",
        b"x\xfe.jpg",
        b"x\\xff.jpg",
        b"x\\\xff.jpg",
        b"x\\\\xff.jpg",
        b"\xe0\x80\x80.jpg",
        b"a\\b.jpg",
    ]
    for i, name in enumerate(names):
        (tmp_path / "p" / os.fsdecode(name)).write_bytes(jpeg(100 + i, 50))
    assert ingest(headrace, "p", "-t", "p")["rows"] == len(names)
    rows = [json.loads(line)["path"] for line in headrace("sql", "select path from p", "--json").stdout.splitlines()]
    assert len(set(rows)) == len(names) and "x\\xff.jpg" in rows and "a\\b.jpg" in rows
    assert ingest(headrace, "p", "-t", "p")["skipped"] == len(names)


def test_processes_that_ingest_one_folder_take_each_file_once(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init", "--no-sync")
    (tmp_path / "p").mkdir()
    (tmp_path / "d").mkdir()
    for i in range(60):
        (tmp_path / "p" / f"{i}.jpg").write_bytes(jpeg(100 + i, 50))
        (tmp_path / "d" / f"{i}.csv").write_text(f"a,c{i % 3}\n{i},x\n")
    program = shutil.which("headrace")
    assert program
    for folder in ("p", "d"):
        running = [
            subprocess.Popen([program, "ingest", folder, "-t", folder, "--json"], cwd=tmp_path, stdout=subprocess.PIPE)
            for _ in range(4)
        ]
        reports = [json.loads(process.communicate(timeout=100)[0]) for process in running]
        assert sum(report["rows"] for report in reports) == 60
        assert all(report["errors"] == [] for report in reports)
        assert count(headrace, folder) == 60


def test_photographs_from_before_items_were_remembered(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(jpeg(100, 50))
    ingest(headrace, "p", "-t", "old")
    # A copy by SQL has the rows and knows nothing of the files.
    assert headrace("sql", "select * from old", "--into", "p").returncode == 0
    (tmp_path / "p" / "b.jpg").write_bytes(jpeg(101, 50))
    assert ingest(headrace, "p", "-t", "p")["rows"] == 1
    assert ingest(headrace, "p", "-t", "p")["skipped"] == 2
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "a.jpg").write_bytes(jpeg(107, 50))  # the same name, other bytes
    assert ingest(headrace, "q", "-t", "p")["rows"] == 1


def test_many_small_files_make_few_commits(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init", "--no-sync")
    (tmp_path / "d").mkdir()
    for i in range(4110):
        (tmp_path / "d" / f"{i}.csv").write_text(f"a,b\n{i},x\n")
    assert ingest(headrace, "d", "-t", "t")["rows"] == 4110
    again = ingest(headrace, "d", "-t", "t")
    assert again["rows"] == 0 and again["skipped"] == 4110
    assert count(headrace, "t") == 4110
    assert len(headrace("log", "t", "--json").stdout.splitlines()) < 10
    assert sum(file.stat().st_size for file in (tmp_path / ".headrace").rglob("*") if file.is_file()) < 4 << 20


def test_csv_values_go_in_as_they_were(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    zips = ["1234"] * 50_000 + ["01234"]
    (tmp_path / "a.csv").write_text(
        "zip,n,x\n" + "".join(f"{z},9223372036854775808,9007199254740993\n" for z in zips) + "1,2,2.5\n"
    )
    assert ingest(headrace, "a.csv", "-t", "a")["rows"] == 50_002
    got = json.loads(headrace("sql", "select zip, n, x from a limit 1 offset 50000", "--json").stdout)
    assert got == {"zip": "01234", "n": 9223372036854775808, "x": "9007199254740993"}
    (tmp_path / "b.csv").write_bytes(b"name;n\ncaf\xe9;1\nx;oops\ny;2;3\n")
    out = ingest(headrace, "b.csv", "-t", "b", "--encoding", "latin-1", "--type", "n=int64")
    assert out["rows"] == 1 and [error["path"] for error in out["errors"]] == ["b.csv:3", "b.csv:4"]
    assert json.loads(headrace("sql", "select * from b", "--json").stdout) == {"name": "caf\u00e9", "n": 1}
    assert "latin-1" in headrace("ingest", "b.csv", "-t", "c").stdout
    assert headrace("ingest", "b.csv", "-t", "c", "--type", "n=nonsense").returncode == 1


def test_a_header_without_a_name_is_told_with_what_helps(headrace: Run, tmp_path: pathlib.Path) -> None:
    """As pandas writes its index."""
    headrace("init")
    for header in (",a", "a,a"):
        (tmp_path / "a.csv").write_text(f"{header}\n0,x\n")
        assert "--header --names" in headrace("ingest", "a.csv", "-t", "a").stdout
    assert ingest(headrace, "a.csv", "-t", "a", "--header", "--names", "row,a")["rows"] == 1


def test_a_failed_ingest_leaves_no_table(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "notes.log").write_text("hello\n")
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    (tmp_path / "empty.csv").touch()
    failed = headrace("ingest", "notes.log", "-t", "t")
    assert failed.returncode == 1 and "--format jsonl" in failed.stdout
    for source in ("bad.jsonl", "empty.csv"):
        failed = headrace("ingest", source, "-t", "t")
        assert failed.returncode == 1 and "json.exception" not in failed.stdout
    names = [table["name"] for table in json.loads(headrace("ls", "--json").stdout)]
    assert names == ["t_errors"]
    before = count(headrace, "t_errors")
    headrace("ingest", "bad.jsonl", "-t", "t")
    headrace("ingest", "notes.log", "-t", "t")
    assert count(headrace, "t_errors") == before
