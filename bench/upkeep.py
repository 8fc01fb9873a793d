"""The claims about changing tables: deletes, updates, upserts, and scans of what they leave."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import duckdb
import headrace as hr
import lance
import numpy as np
import pyarrow as pa
from measure import Line, alternate, at_most, timed
from tables import Scratch, fixed, folder_bytes, vectors

ROUNDS = 5


def rows_of(rows: int) -> pa.Table:
    """(key, number, text, 384 floats)."""
    rng = np.random.default_rng(3)
    return pa.table(
        {
            "key": pa.array(rng.permutation(rows), pa.int64()),
            "number": rng.random(rows),
            "text": pa.array([f"the text of row {i}" for i in range(rows)]),
            "vector": fixed(vectors(rows)),
        }
    )


class Sides:
    """The same table made by us (without fsync, as Lance) and by Lance, each work on a fresh copy of the files."""

    def __init__(self, folder: pathlib.Path, data: pa.Table) -> None:
        self.folder = folder
        hr.init(folder / "ours0", sync=False).create_table("t", data)
        lance.write_dataset(data, folder / "theirs0", max_rows_per_file=1 << 20)

    def run(
        self, ours: Callable[[hr.Table], object], theirs: Callable[[lance.LanceDataset], object]
    ) -> tuple[float, float, int]:
        """Median seconds of both, and the bytes that ours wrote. A round of each first warms up."""
        mine, rival = [], []
        written = 0
        for index in range(ROUNDS + 1):
            for side in ("ours", "theirs") if index % 2 == 0 else ("theirs", "ours"):
                place = self.folder / side
                shutil.copytree(self.folder / f"{side}0", place)
                try:
                    if side == "ours":
                        table = hr.open(place)["t"]
                        before = folder_bytes(place)
                        seconds = timed(lambda table=table: ours(table))
                        written = folder_bytes(place) - before
                    else:
                        dataset = lance.dataset(place)
                        seconds = timed(lambda dataset=dataset: theirs(dataset))
                finally:
                    shutil.rmtree(place)
                if index:
                    (mine if side == "ours" else rival).append(seconds)
        return statistics.median(mine), statistics.median(rival), written


def changes(scale: float) -> list[Line]:
    rows = int(1_000_000 * scale)
    data = rows_of(rows)
    lines = []
    with Scratch() as folder:
        sides = Sides(folder, data)
        ours, theirs, _ = sides.run(lambda t: t.delete("key % 100 = 7"), lambda d: d.delete("key % 100 = 7"))
        lines.append(at_most("1M rows with vectors: delete 1 %", ours, theirs, 1.0))

        ours, theirs, written = sides.run(
            lambda t: t.update({"number": 0.5}, "key % 10 = 7"),
            lambda d: d.update({"number": "0.5"}, "key % 10 = 7"),
        )
        lines.append(at_most("… update one number of 10 % of the rows", ours, theirs, 0.15))
        changed = rows // 10 * 8
        ratio = written / changed
        lines.append(
            Line(
                "… bytes written ÷ bytes changed",
                f"{written / 1e6:.3f} MB",
                f"{changed / 1e6:.3f} MB",
                ratio,
                "≤ 1.2",
                ratio <= 1.2,
            )
        )
        rng = np.random.default_rng(5)
        count = int(10_000 * scale)
        fresh = rows_of(count).set_column(
            0, "key", pa.array(np.sort(rng.choice(rows * 2, count, replace=False)), pa.int64())
        )
        ours, theirs, _ = sides.run(
            lambda t: t.merge(fresh, on="key"),
            lambda d: d.merge_insert("key").when_matched_update_all().when_not_matched_insert_all().execute(fresh),
        )
        lines.append(at_most("… upsert 10k whole rows by key, half of them new", ours, theirs, 1.0))
    return lines


def scans(scale: float) -> list[Line]:
    rows = int(4_000_000 * scale)
    rng = np.random.default_rng(3)
    data = pa.table({"key": rng.permutation(rows), "number": rng.random(rows), "other": rng.random(rows)})
    lines = []
    query = "select sum(number), sum(other), max(key) from t"
    with Scratch() as folder:
        catalogs = {}
        for name in ("plain", "deleted", "overlaid"):
            catalogs[name] = hr.init(folder / name, sync=False)
            catalogs[name].create_table("t", data)
        catalogs["deleted"]["t"].delete("key % 100 = 7")
        catalogs["overlaid"]["t"].update({"number": 0.5}, "key % 100 = 7")
        for name, words in (("deleted", "1 % of the rows deleted"), ("overlaid", "1 % of one column overlaid")):
            base, changed = [], []
            for index in range(10):
                for side, times in (("plain", base), (name, changed)):
                    seconds = timed(lambda side=side: catalogs[side].sql(query).to_arrow())
                    if index:
                        times.append(seconds)
            lines.append(
                at_most(f"SQL scan of 4M rows, {words}", statistics.median(changed), statistics.median(base), 1.1)
            )
    return lines


def merge(scale: float) -> list[Line]:
    rows = int(10_000_000 * scale)
    hits = rows // 100
    rng = np.random.default_rng(3)
    keys = rng.permutation(rows)
    data = pa.table({"key": keys, "number": rng.random(rows)})
    source = pa.table({"key": np.sort(rng.choice(rows, hits, replace=False)), "number": np.zeros(hits)})
    with Scratch() as folder:
        table = hr.init(folder / "ours", sync=False).create_table("t", data)
        rival_database = duckdb.connect()
        rival_database.register("big", pa.table({"key": keys}))
        rival_database.register("small", pa.table({"key": source["key"]}))
        ours, theirs = [], []
        for index in range(4):
            start = time.perf_counter()
            table.merge(source, on="key", not_matched="ignore")
            mine = time.perf_counter() - start
            rival = timed(lambda: rival_database.sql("select count(*) from big join small using (key)").fetchall())
            if index:
                ours.append(mine)
                theirs.append(rival)
        return [
            at_most(
                "merge on a key over 10M rows, 1 % hits ÷ DuckDB's join of the keys",
                statistics.median(ours),
                statistics.median(theirs),
                2.5,
            )
        ]


def compaction(scale: float) -> list[Line]:
    fragments, each = int(10_000 * scale), 100
    rng = np.random.default_rng(3)
    rows = fragments * each
    data = pa.table(
        {
            "key": pa.array(rng.permutation(rows), pa.int64()),
            "number": rng.random(rows),
            "text": pa.array([f"the text of row {i}" for i in range(rows)]),
        }
    )
    with Scratch() as folder:
        hr.init(folder / "ours0", sync=False)
        # Without upkeep: its own compaction in the background would leave nothing to compact.
        table = hr.open(folder / "ours0", upkeep=False).create_table("t", data.schema)
        for i in range(fragments):
            table.append(data.slice(i * each, each))
        lance.write_dataset(data, folder / "theirs0", max_rows_per_file=each, max_rows_per_group=each)
        measured: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for index in range(4):
            for side in ("ours", "theirs") if index % 2 == 0 else ("theirs", "ours"):
                place = folder / side
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(folder / f"{side}0", place)
                worker = [sys.executable, str(pathlib.Path(__file__).parent / "compact_worker.py"), side, str(place)]
                done = json.loads(subprocess.run(worker, check=True, capture_output=True, text=True).stdout)
                if index:
                    measured[side].append(done)
        ours, theirs = (statistics.median(m["seconds"] for m in measured[side]) for side in ("ours", "theirs"))
        memory = [max(m["peak_mb"] for m in measured[side]) for side in ("ours", "theirs")]
        table, dataset = hr.open(folder / "ours")["t"], lance.dataset(folder / "theirs")
        mine, rival = alternate(lambda: table.scan().to_arrow(), lambda: dataset.to_table(), ROUNDS)
        return [
            Line(
                f"compaction of {fragments:,} fragments of {each} rows: rows/s",
                f"{rows / ours:,.0f}/s",
                f"{rows / theirs:,.0f}/s",
                theirs / ours,
                "≥ 1",
                theirs >= ours,
            ),
            Line(
                "… peak of anonymous memory, of 1 GB",
                f"{memory[0]:.0f} MB",
                f"{memory[1]:.0f} MB",
                memory[0] / 1024,
                "≤ 1",
                memory[0] < 1024,
            ),
            at_most("… a scan of all of it afterwards", mine, rival, 1.0),
        ]


def small_commits(scale: float) -> list[Line]:
    """Four processes that commit every 100 ms, and the table that they leave, beside the same rows written at once."""
    seconds, writers = 600 * scale, 4
    here = pathlib.Path(__file__).parent
    with Scratch() as folder:
        schema = pa.schema({"key": pa.int64(), "number": pa.float64(), "text": pa.string()})
        table = hr.init(folder / "small", sync=False).create_table("t", schema)
        words = [sys.executable, str(here / "small_commits_worker.py"), str(folder / "small")]
        running = [subprocess.Popen([*words, str(i), str(seconds)]) for i in range(writers)]
        failed = [one.wait() for one in running]
        if any(failed):
            raise RuntimeError(f"writers ended with {failed}")
        versions = table.version
        hr.init(folder / "fresh", sync=False).create_table("t", table.scan().to_arrow())
        measured: dict[str, list[dict[str, float]]] = {"small": [], "fresh": []}
        for index in range(2 * ROUNDS):
            for side in ("small", "fresh") if index % 2 == 0 else ("fresh", "small"):
                worker = [sys.executable, str(here / "open_worker.py"), str(folder / side)]
                done = json.loads(subprocess.run(worker, check=True, capture_output=True, text=True).stdout)
                if index:
                    measured[side].append(done)

        def median(side: str, what: str) -> float:
            return statistics.median(one[what] for one in measured[side])

        what = f"{writers} writers, a commit each every 100 ms for {seconds:,.0f} s ({versions:,} versions)"
        return [
            at_most(
                f"{what}: open and first rows ÷ a table written at once",
                median("small", "open"),
                median("fresh", "open"),
                1.2,
            ),
            at_most(
                "… SQL scan of all of it ÷ a table written at once",
                median("small", "scan"),
                median("fresh", "scan"),
                1.2,
            ),
        ]


def collection(scale: float) -> list[Line]:
    files = int(100_000 * scale)
    with Scratch() as folder:
        words = [os.environ["HEADRACE_BENCH_GC"], str(folder / "catalog"), str(files), str(files // 5)]
        done = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    if done["deleted"] != files // 5:
        raise RuntimeError(f"{done['deleted']} files were deleted, not {files // 5}")
    requests, memory = done["requests"] / files, done["peak_mb"]
    return [
        Line(
            f"gc of a table of {files:,} files, 20 % dead ({done['seconds']:.1f} s): requests ÷ files",
            f"{done['requests']:,}",
            f"{files:,}",
            requests,
            "≤ 1.05",
            requests <= 1.05,
        ),
        Line("… peak memory, of 500 MB", f"{memory:.0f} MB", "500 MB", memory / 500, "≤ 1", memory < 500),
    ]


BENCHES: dict[str, Callable[[float], list[Line]]] = {
    "changes": changes,
    "scans": scans,
    "merge": merge,
    "compaction": compaction,
    "small_commits": small_commits,
    "gc": collection,
}
