"""Python's threads over one catalog, table, snapshot and stream, for ThreadSanitizer: `./dev test --ci` runs this program with a module
that is built with it. What it finds is told by the sanitizer; wrong values and errors end the program."""

from __future__ import annotations

import io
import pathlib
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable

import headrace as hr
import numpy as np
from PIL import Image

failures: list[str] = []


def together(*jobs: Callable[[], None]) -> None:
    """Runs the jobs in threads of their own; what one raises is told at the end."""

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def photograph(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def a_table_that_is_read_and_changed(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"k": np.arange(400), "text": [f"row {i}" for i in range(400)]})
    over = threading.Event()

    def change() -> None:
        for turn in range(6):
            table.append({"k": np.arange(1000 * (turn + 1), 1000 * (turn + 1) + 50), "text": ["new"] * 50})
            table.delete(f"k = {turn}")
            table.update({"text": f"turn {turn}"}, f"k >= {100 + turn} and k < {110 + turn}")
            table.compact()
        over.set()

    def scan() -> None:
        while not over.is_set():
            rows = sum(len(batch) for batch in table.scan(["k"], "k >= 50").batches())
            assert rows >= 300, rows
            assert table.at().count("text is null") == 0

    def take() -> None:
        while not over.is_set():
            snapshot = table.at()
            assert snapshot.take([399, 50, 50])["k"].tolist() == [399, 50, 50]
            assert len(snapshot.head(3)) == 3 and snapshot.columns["k"] == "int64"

    def ask() -> None:
        while not over.is_set():
            rows = catalog.sql("select count(*) as n, max(k) as m from t where k >= 50").to_arrow().to_pylist()
            assert rows[0]["n"] >= 300, rows
            next(iter(catalog.sql("select * from t")))  # and the rest is dropped

    together(change, scan, take, ask)


def one_snapshot_of_many_threads(catalog: hr.Catalog) -> None:
    pictures = [photograph(seed) for seed in range(8)]
    table = catalog.create_table("p", {"n": "int64", "image": "blob"})
    table.append({"n": np.arange(64), "image": [pictures[i % 8] for i in range(64)]})
    snapshot = table.at()
    reader = snapshot.scan(batch_rows=4)
    seen: list[int] = []

    def drain() -> None:  # one reader of two threads
        for row in reader:
            seen.append(row["n"])

    def look() -> None:
        for turn in range(20):
            row = snapshot.take([turn])[0]
            assert row["image"].read() == pictures[turn % 8]
            row["image"].decode()

    together(drain, drain, look, look)
    assert sorted(seen) == list(range(64)), seen


def a_stream_that_is_closed_moved_and_asked(catalog: hr.Catalog) -> None:
    rows = catalog.create_table("s", {"n": np.arange(500)})
    rows.append({"n": np.arange(500, 1000)})
    for turn in range(8):
        stream = hr.Stream(rows, ["n"], batch_size=7, seed=turn)
        started = threading.Event()

        def read(stream: hr.Stream = stream, started: threading.Event = started) -> None:
            try:
                for _ in stream:
                    started.set()
            except hr.HeadraceError as error:
                assert "closed" in str(error), error
            started.set()

        def close(stream: hr.Stream = stream, started: threading.Event = started) -> None:
            started.wait()
            stream.close()

        together(read, read, close)
    stream = hr.Stream(rows, ["n"], batch_size=16, seed=1)
    state = stream.state_dict()
    over = threading.Event()

    def move() -> None:
        for _ in range(5):
            stream.load_state_dict(state)
            sum(1 for _ in stream)
        over.set()

    def ask() -> None:
        while not over.is_set():
            stream.stats()
            len(stream)
            stream.plan(3)

    together(move, ask)


def ingest_beside_readers(catalog: hr.Catalog, folder: pathlib.Path) -> None:
    for number in range(20):
        (folder / f"{number}.jpg").write_bytes(photograph(number))
    (folder / "rows.csv").write_text("a,b\n" + "".join(f"{i},x{i}\n" for i in range(2000)))

    def photographs() -> None:
        assert len(catalog.ingest(*sorted(folder.glob("*.jpg")), table="photos")["errors"]) == 0

    def rows() -> None:
        assert catalog.ingest(folder / "rows.csv", table="rows")["rows"] == 2000

    def look() -> None:
        for _ in range(10):
            for name in catalog.tables():
                catalog[name].describe()
                len(catalog[name])

    together(photographs, rows, look)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        catalog = hr.init(root / "catalog", sync=False)
        a_table_that_is_read_and_changed(catalog)
        one_snapshot_of_many_threads(catalog)
        a_stream_that_is_closed_moved_and_asked(catalog)
        (root / "files").mkdir()
        ingest_beside_readers(catalog, root / "files")
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


main()
