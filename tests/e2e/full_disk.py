"""Every operation on a disk of 200 MB that is full, or fills up in its middle, and in a folder that may only be read. Run in a mount
namespace of its own: ``unshare -rm python full_disk.py FOLDER STEP``; what went wrong is an exception. Every STEP-th of the amounts of space is tried."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa

DISK = 200 << 20
ROWS = 4000
LEFT = (0, 4 << 10, 12 << 10, 40 << 10, 200 << 10, 600 << 10, 1500 << 10)  # bytes


def batch(first: int, rows: int) -> pa.Table:
    vec = np.arange(first, first + rows, dtype=np.float32).repeat(32)
    return pa.table(
        {
            "k": np.arange(first, first + rows),
            "name": [f"name {n}" for n in range(first, first + rows)],
            "vec": pa.FixedSizeListArray.from_arrays(pa.array(vec), 32),
            "image": pa.array([f"{n};".encode() * 400 for n in range(first, first + rows)], pa.binary()),
        }
    )


def make(catalog: hr.Catalog, name: str) -> hr.Table:
    types = {"k": "int64", "name": "string", "vec": "tensor<float32>[32]", "image": "blob"}
    table = catalog.create_table(name, types)
    for part in range(4):
        table.append(batch(part * (ROWS // 4), ROWS // 4))
    table.delete("k % 9 = 1")
    table.update({"name": "updated"}, "k % 50 = 3")
    return table


def seen(table: hr.Table) -> Any:
    """All that a reader can see."""
    rows = table.scan(row_ids=True).to_arrow()
    blobs = [bytes(row["image"]) for row in table.take(rows["_row_id"].to_pylist()[::97], ["image"])]
    return {name: rows[name].to_pylist() for name in rows.column_names if name != "image"}, blobs


OPERATIONS: dict[str, Callable[[hr.Table], Any]] = {
    "append": lambda table: table.append(batch(ROWS, 1000)),
    "delete": lambda table: table.delete("k % 7 = 2"),
    "purge": lambda table: table.delete("k % 7 = 2", purge=True),
    "update": lambda table: table.update({"name": "new"}, "k % 11 = 4"),
    "update of every row": lambda table: table.update({"vec": np.ones(32, np.float32)}, "true"),
    "merge": lambda table: table.merge(batch(ROWS - 300, 600), on="k"),
    "add_columns": lambda table: table.add_columns(lambda b: {"twice": np.asarray(b["vec"]) * 2}, inputs=["vec"]),
    "compact": lambda table: table.compact(),
    "gc": lambda table: table.gc(keep=0, grace=0),
    "restore": lambda table: table.restore(2),
    "tag": lambda table: table.tag("golden"),
}


class Disk:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)], check=True)
        self.ballast = folder / "ballast"

    def fill(self, left: int) -> None:
        self.ballast.unlink(missing_ok=True)
        found = os.statvfs(self.folder)
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - left)

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)


def refused(run: Callable[[], Any], cause: str, location: pathlib.Path) -> bool:
    try:
        run()
    except hr.Unavailable as error:
        assert cause in str(error) and str(location) in str(error), error
        return True
    return False


def fills_up(disk: Disk, name: str, operation: Callable[[hr.Table], Any], amounts: tuple[int, ...]) -> None:
    reference = make(hr.init(disk.folder / "reference"), "t")
    location = disk.folder / "catalog"
    shutil.copytree(disk.folder / "reference", location)
    before = seen(reference)
    operation(reference)
    wanted = seen(reference)
    failures = 0
    for left in amounts:
        disk.fill(left)
        if not refused(lambda: operation(hr.open(location)["t"]), "No space left on device", location):
            break
        failures += 1
        table = hr.open(location)["t"]
        assert seen(table) == before, f"{name} failed with {left} bytes left, and changed something"
        if left == 0:  # the rows of a filter are not kept then
            stream = hr.Stream(table, ["k"], "name = 'updated'", batch_size=16, seed=1, epochs=1)
            assert sum(int(b["valid"].sum()) for b in stream) == table.count("name = 'updated'") > 0
    disk.free()
    assert failures, f"{name} needs no space"
    table = hr.open(location)["t"]
    if failures == len(amounts):  # it did not fit yet
        operation(table)
    assert seen(table) == wanted, name
    found = table.verify()
    assert found and found.orphans == 0, (name, found)
    print(f"{name}: {failures} of {len(amounts)}", flush=True)
    shutil.rmtree(location)
    shutil.rmtree(disk.folder / "reference")


def program(location: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["headrace", "--catalog", str(location), *words], capture_output=True, text=True)


def ingest(disk: Disk, source: pathlib.Path) -> None:
    location = disk.folder / "catalog"
    hr.init(location)
    for left in (0, 40 << 10):
        disk.fill(left)
        done = program(location, "ingest", str(source), "--table", "t")
        assert done.returncode == 1 and "No space left on device" in done.stderr, (left, done)
        assert str(location) in done.stderr, done.stderr
    disk.free()
    assert program(location, "ingest", str(source), "--table", "t").returncode == 0
    assert sorted(row["n"] for row in hr.open(location)["t"].scan(["n"])) == list(range(20_000))
    shutil.rmtree(location)


def cache_of_a_stream(disk: Disk, elsewhere: pathlib.Path) -> None:
    """What does not fit into its folder is not kept."""
    make(hr.init(elsewhere), "t")
    table = hr.open(f"slow:latency=1ms:{elsewhere}")["t"]

    def run(**options: Any) -> list[int]:
        stream = hr.Stream(table, ["k", "vec", "image"], batch_size=64, seed=3, epochs=1, **options)
        return [key for batch in stream for key in batch["k"][batch["valid"]].tolist()]

    wanted = run()
    assert len(wanted) == len(table)
    for left in (0, 64 << 10, 1 << 20):
        disk.fill(left)
        assert run(cache=disk.folder / "cache", cache_size="100MB") == wanted
    disk.free()
    assert run(cache=disk.folder / "cache", cache_size="100MB") == wanted
    assert any((disk.folder / "cache").rglob("*.blk"))


def read_only(disk: Disk, source: pathlib.Path) -> None:
    location = disk.folder / "catalog"
    before = seen(make(hr.init(location), "t"))
    subprocess.run(["mount", "--bind", str(location), str(location)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(location)], check=True)
    table = hr.open(location)["t"]
    for name, operation in OPERATIONS.items():
        assert refused(lambda operation=operation: operation(table), "Read-only file system", location), name
    assert refused(lambda: hr.open(location).create_table("u", {"n": "int64"}), "Read-only file system", location)
    done = program(location, "ingest", str(source), "--table", "t")
    assert done.returncode == 1 and "Read-only file system" in done.stderr, done.stderr
    assert seen(table) == before and table.verify() and table.storage().total.bytes > 0
    stream = hr.Stream(table, ["k"], "name = 'updated'", batch_size=16, seed=1, epochs=1)
    assert sum(int(batch["valid"].sum()) for batch in stream) == table.count("name = 'updated'") > 0
    told = program(location, "sql", "select count(*) as n from t", "--format", "json")
    assert told.stdout == f'{{"n":{len(table)}}}\n', told
    subprocess.run(["mount", "-o", "remount,bind,rw", str(location)], check=True)
    assert OPERATIONS["append"](table).rows == 1000


def main(folder: pathlib.Path, step: int) -> None:
    mounted, elsewhere, source = folder / "disk", folder / "elsewhere", folder / "numbers.jsonl"
    mounted.mkdir()
    source.write_text("".join(f'{{"n": {n}, "text": "{"x" * (n % 97)}"}}\n' for n in range(20_000)))
    disk = Disk(mounted)
    for name, operation in OPERATIONS.items():
        fills_up(disk, name, operation, LEFT[::step])
    ingest(disk, source)
    cache_of_a_stream(disk, elsewhere)
    read_only(disk, source)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
