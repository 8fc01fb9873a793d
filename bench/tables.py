"""The claims about tables: add columns, take, SQL, commits, ingest, big manifests, memory."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import duckdb
import headrace as hr
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import Line, alternate, at_most, timed
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent


class Scratch:
    """A folder that goes when done."""

    def __enter__(self) -> pathlib.Path:
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="headrace-bench-"))
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def folder_bytes(path: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def vectors(rows: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 384), dtype=np.float32)


def fixed(array: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


def add_column(scale: float) -> list[Line]:
    rows = int(100_000 * scale)
    base = pa.table({"id": pa.array(range(rows), pa.int64()), "score": np.random.default_rng(1).random(rows)})
    data = vectors(rows)
    column = pa.table({"vec": fixed(data)})
    lines = []
    with Scratch() as folder:
        catalog = hr.init(folder / "ours", sync=False)
        synced = hr.init(folder / "synced")
        dataset = lance.write_dataset(base, folder / "theirs")
        counter = iter(range(1000))

        def fresh(into: hr.Catalog) -> hr.Table:
            return into.create_table(f"t{next(counter)}", base)

        def plain() -> None:
            with (folder / f"plain{next(counter)}").open(
                "wb", buffering=0
            ) as file:  # kept: new pages of the cache, as for the others
                left = memoryview(data).cast("B")
                while left:
                    left = left[file.write(left) :]

        ours, theirs, safe, bare = [], [], [], []
        table = fresh(catalog)
        before = folder_bytes(folder / "ours")
        table.add_columns(column)
        written = folder_bytes(folder / "ours") - before
        for _ in range(7):
            table, safe_table = fresh(catalog), fresh(synced)
            ours.append(timed(lambda: table.add_columns(column)))
            dataset = lance.write_dataset(base, folder / "theirs", mode="overwrite")
            theirs.append(timed(lambda: dataset.add_columns(column)))
            safe.append(timed(lambda: safe_table.add_columns(column)))
            bare.append(timed(plain))
        ratio = written / data.nbytes
        lines.append(
            Line(
                f"add a 384-float column to {rows:,} rows: bytes",
                f"{written:,} B",
                f"{data.nbytes:,} B",
                ratio,
                "≤ 1.02",
                ratio <= 1.02,
            )
        )
        mine, rival = statistics.median(ours), statistics.median(theirs)
        lines.append(
            at_most(
                f"add a 384-float column to {rows:,} rows: seconds (synced: {statistics.median(safe) * 1000:.0f} ms)",
                mine,
                rival,
                1.0,
            )
        )
        lines.append(at_most("… ÷ write() of the same bytes into a new file", mine, statistics.median(bare), 1.5))
    return lines


def scalar_columns(rng: np.random.Generator, rows: int) -> dict[str, np.ndarray | pa.Array]:
    """Five columns of which rows are taken."""
    return {
        "a": rng.integers(0, 1 << 40, rows),
        "b": rng.random(rows),
        "c": rng.integers(0, 100, rows).astype(np.int32),
        "d": rng.random(rows).astype(np.float32),
        "s": pa.array([f"name-{i % 1000}-{i}" for i in range(rows)]),
    }


def take(scale: float) -> list[Line]:
    rows = int(1_000_000 * scale)
    rng = np.random.default_rng(3)
    scalars = scalar_columns(rng, rows)
    lines = []
    with Scratch() as folder:
        table = pa.table({**scalars, "vec": fixed(vectors(rows))})
        catalog = hr.init(folder / "ours", sync=False)
        ours = catalog.create_table("t", table)
        theirs = lance.write_dataset(table, folder / "theirs")
        names = list(scalars)
        for columns, limit, label in (
            (names, 1.0, "5 scalars"),
            ([*names, "vec"], 0.5, "5 scalars and a 384-float vector"),
        ):
            snapshot = ours.at()
            picks = iter([rng.choice(rows, 1000, replace=False) for _ in range(64)])
            picks_theirs = iter([rng.choice(rows, 1000, replace=False) for _ in range(64)])
            mine, rival = alternate(
                lambda: snapshot.take(next(picks).tolist(), columns),
                lambda: theirs.take(next(picks_theirs).tolist(), columns),
                31,
            )
            lines.append(at_most(f"take 1,000 random rows of {rows:,} ({label}), warm, p50", mine, rival, limit))
    return lines


def blobs(scale: float) -> list[Line]:
    rows = int(100_000 * scale)
    rng = np.random.default_rng(5)
    # Bytes of the size of a 500 × 375 JPEG, 10 KB here so that 100,000 of them fit a laptop's page cache twice over.
    pool = rng.integers(0, 256, 40_000_000, dtype=np.uint8).tobytes()
    sizes = rng.integers(6_000, 14_000, rows)
    starts = rng.integers(0, len(pool) - 20_000, rows)
    lines = []
    with Scratch() as folder:
        catalog = hr.init(folder / "ours", sync=False)
        ours = catalog.create_table("t", {"id": "int64", "image": "blob"})
        schema = pa.schema([("id", pa.int64()), pa.field("image", pa.large_binary())])

        def batches() -> object:
            for begin in range(0, rows, 2000):
                end = min(rows, begin + 2000)
                images = [
                    pool[s : s + n] for s, n in zip(starts[begin:end].tolist(), sizes[begin:end].tolist(), strict=True)
                ]
                yield pa.record_batch(
                    {"id": pa.array(range(begin, end)), "image": pa.array(images, pa.large_binary())}, schema=schema
                )

        ours.append(pa.RecordBatchReader.from_batches(schema, batches()))
        theirs = lance.write_dataset(
            pa.RecordBatchReader.from_batches(schema, batches()), folder / "theirs", schema=schema
        )
        plain = folder / "files"
        plain.mkdir()
        for i in range(rows):
            (plain / str(i)).write_bytes(pool[starts[i] : starts[i] + sizes[i]])
        snapshot = ours.at()

        def pick() -> list[int]:
            return rng.choice(rows, 256, replace=False).tolist()

        def ours_bytes() -> int:
            return sum(len(blob or b"") for blob in snapshot.take(pick(), ["image"]).blobs("image"))

        def theirs_bytes() -> int:
            return sum(len(blob) for blob in theirs.take(pick(), ["image"])["image"].to_pylist())

        def files_bytes() -> int:
            return sum(len((plain / str(i)).read_bytes()) for i in pick())

        for warm in (ours_bytes, theirs_bytes, files_bytes):
            for _ in range(40):
                warm()
        mine, rival = alternate(ours_bytes, theirs_bytes, 41)
        lines.append(at_most(f"take 256 random blobs (6-14 KB) of {rows:,}, warm, ÷ Lance", mine, rival, 1.0))
        mine, rival = alternate(ours_bytes, files_bytes, 41)
        lines.append(at_most(f"take 256 random blobs (6-14 KB) of {rows:,}, warm, ÷ plain files", mine, rival, 1.3))
    return lines


def sql(scale: float) -> list[Line]:
    rows = int(10_000_000 * scale)
    rng = np.random.default_rng(11)
    columns = {
        "a": rng.integers(0, 1000, rows),
        "b": rng.random(rows),
        "c": rng.integers(0, 1 << 30, rows).astype(np.int32),
        "d": rng.random(rows),
        "e": rng.integers(0, 50, rows).astype(np.int32),
        "f": rng.random(rows).astype(np.float32),
    }
    query = "select e, count(*), avg(b), sum(d), max(c), min(f) from {} where a < 300 group by e order by e"
    lines = []
    with Scratch() as folder:
        whole = pa.table(columns)
        catalog = hr.init(folder / "ours", sync=False)
        catalog.create_table("one", whole)
        two = catalog.create_table("two", whole.select(["a", "b", "c"]))
        two.add_columns(whole.select(["d", "e", "f"]))
        (folder / "plain").mkdir()
        for i, begin in enumerate(range(0, rows, 1 << 20)):
            pq.write_table(whole.slice(begin, 1 << 20), folder / "plain" / f"{i}.parquet", row_group_size=65536)
        del whole
        connection = duckdb.connect()
        plain = f"read_parquet('{folder}/plain/*.parquet')"
        expected = connection.sql(query.format(plain)).fetchall()
        for name, limit, label in (("one", 1.15, "columns in one file set"), ("two", 3.0, "in two")):
            native = catalog._native.engine("", 0)

            def ours(name: str = name, native: object = native) -> list[dict[str, object]]:
                return hr.Reader(native.query(query.format(name))).to_pylist()  # type: ignore[attr-defined]

            got = ours()
            for row, want in zip(got, expected, strict=True):
                assert row["e"] == want[0] and list(row.values())[1] == want[1], (row, want)
            mine, rival = alternate(ours, lambda: connection.sql(query.format(plain)).fetchall(), 9)
            lines.append(
                at_most(
                    f"SQL filter + aggregate over {rows:,} rows × 6, {label}, ÷ DuckDB on plain Parquet",
                    mine,
                    rival,
                    limit,
                )
            )
    return lines


def commits(scale: float) -> list[Line]:
    seconds = max(2.0, 10 * scale)
    results = {}
    with Scratch() as folder:
        for who in ("ours", "theirs", "synced"):
            if who == "theirs":
                lance.write_dataset(pa.table({"id": pa.array([0], pa.int64()), "x": [0.5]}), folder / who)
            else:
                hr.init(folder / who, sync=who == "synced").create_table("t", {"id": "int64", "x": "float64"})
            start = time.time() + 2.5
            workers = [
                subprocess.Popen(
                    [sys.executable, str(HERE / "commit_worker.py"), who, str(folder / who), str(start), str(seconds)],
                    stdout=subprocess.PIPE,
                )
                for _ in range(8)
            ]
            times, failures = [], 0
            for worker in workers:
                report = json.loads(worker.communicate()[0])
                times += report["times"]
                failures += report["failures"]
            times.sort()
            results[who] = (len(times) / seconds, times[int(len(times) * 0.99)] if times else 9.9, failures)
    mine, rival, safe = results["ours"], results["theirs"], results["synced"]
    ratio = mine[0] / rival[0]
    return [
        Line(
            f"commits a second, 8 processes, rate ÷ Lance (synced: {safe[0]:.0f}/s, p99 {safe[1] * 1000:.0f} ms)",
            f"{mine[0]:.0f} /s",
            f"{rival[0]:.0f} /s",
            ratio,
            "≥ 2",
            ratio >= 2,
        ),
        Line(
            "p99 of a commit, 8 processes, seconds ÷ 0.5",
            f"{mine[1]:.3f} s",
            f"{rival[1]:.3f} s",
            mine[1] / 0.5,
            "≤ 1",
            mine[1] <= 0.5,
        ),
        Line(
            "failed commits",
            f"{mine[2] + safe[2]}",
            f"{rival[2]}",
            float(mine[2] + safe[2]),
            "= 0",
            mine[2] + safe[2] == 0,
        ),
    ]


def make_photos(folder: pathlib.Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(13)
    base = Image.fromarray(rng.integers(0, 256, (94, 125, 3), dtype=np.uint8)).resize((500, 375))
    for i in range(count):
        angle = base.rotate(i % 360)
        angle.save(folder / f"{i:05}.jpg", quality=92)


def ingest(scale: float) -> list[Line]:
    count = int(2000 * scale)
    with Scratch() as folder:
        photos = folder / "photos"
        make_photos(photos, count)
        program = shutil.which("headrace")
        assert program, "./dev bench puts headrace on the path"
        number = iter(range(100))

        def ours() -> None:
            catalog = folder / f"c{next(number)}"
            subprocess.run([program, "-q", "--catalog", str(catalog), "init"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(
                [program, "-q", "--catalog", str(catalog), "ingest", str(photos), "-t", "photos"],
                check=True,
                stdout=subprocess.DEVNULL,
            )

        def theirs() -> None:
            copy = folder / f"copy{next(number)}"
            subprocess.run(["cp", "-r", str(photos), str(copy)], check=True)
            subprocess.run(["sync"], check=True)
            for path in sorted(copy.iterdir()):
                with Image.open(path) as image:
                    assert image.size == (500, 375)

        mine, rival = alternate(ours, theirs, 5)
        return [at_most(f"ingest of {count:,} photographs, synced ÷ (cp -r + sync + Pillow headers)", mine, rival, 0.9)]


def manifests(scale: float) -> list[Line]:
    fragments = int(100_000 * scale)
    tool = os.environ["HEADRACE_BENCH_MANIFESTS"]
    with Scratch() as folder:
        subprocess.run([tool, "make", str(folder / "c"), str(fragments), "1000"], check=True)
        runs = [
            json.loads(subprocess.run([tool, "plan", str(folder / "c")], check=True, stdout=subprocess.PIPE).stdout)
            for _ in range(5)
        ]
        seconds = statistics.median(run["seconds"] for run in runs)
        megabytes = statistics.median(run["peak_mb"] for run in runs)
    label = f"open and plan: {fragments:,} fragments, {fragments * 10:,} files, 50 columns, 1,000 small commits"
    return [
        Line(f"{label}: seconds ÷ 0.5", f"{seconds:.3f} s", "0.5 s", seconds / 0.5, "< 1", seconds < 0.5),
        Line(f"{label}: MB ÷ 300", f"{megabytes:.0f} MB", "300 MB", megabytes / 300, "< 1", megabytes < 300),
    ]


def memory(scale: float) -> list[Line]:
    gigabytes = 10 * scale
    with Scratch() as folder:
        run = subprocess.run(
            [sys.executable, str(HERE / "memory_worker.py"), str(folder / "c"), str(gigabytes)],
            check=True,
            stdout=subprocess.PIPE,
        )
        report = json.loads(run.stdout)
    peak = report["peak_anonymous_mb"]
    return [
        Line(
            f"write {gigabytes:g} GB of rows in one stream ({report['seconds']:.0f} s): peak anonymous MB ÷ 1,000",
            f"{peak:.0f} MB",
            "1,000 MB",
            peak / 1000,
            "< 1",
            peak < 1000,
        )
    ]


BENCHES: dict[str, Callable[[float], list[Line]]] = {
    "add_column": add_column,
    "take": take,
    "blobs": blobs,
    "sql": sql,
    "commits": commits,
    "ingest": ingest,
    "manifests": manifests,
    "memory": memory,
}
