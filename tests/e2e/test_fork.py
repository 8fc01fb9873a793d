"""Tables, streams, SQL and cells in other processes: forked, from a fork server, started afresh."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import headrace as hr
import numpy as np
import pytest
import stream_tables as tables

PROGRAM = """
import multiprocessing, os, sys, traceback
import headrace as hr

def work(catalog, table, snapshot, row, blob, batch, pipe):
    try:
        pipe.send([
            len(table.scan(["label"]).to_pylist()),
            snapshot.count("label >= 0"),
            snapshot.version,
            catalog.sql("select count(*) as n from photos").to_pylist()[0]["n"],
            len(bytes(row["image"])) == len(bytes(blob)),
            len(batch.blobs("image")) if batch is not None else 3,
            next(iter(hr.Stream(table, ["label"], batch_size=8, seed=1)))["row_id"].tolist(),
        ])
        table.append({"label": [1]})
    except BaseException:
        pipe.send(traceback.format_exc())

if __name__ == "__main__":
    catalog = hr.open(sys.argv[1])
    table = catalog["photos"]
    snapshot = table.at()
    batch = table.take([0, 1, 2], ["image"])
    list(table.scan())  # the parent's threads and files are in use
    catalog.sql("select count(*) from photos").to_pylist()
    rows = len(table)
    for method in ("fork", "forkserver", "spawn"):
        context = multiprocessing.get_context(method)
        mine, theirs = context.Pipe()
        given = batch if method == "fork" else None
        row = batch[0]
        process = context.Process(target=work, args=(catalog, table, snapshot, row, row["image"], given, theirs))
        process.start()
        assert mine.poll(60), f"{method}: the child hangs"
        answer = mine.recv()
        first = next(iter(hr.Stream(table.at(snapshot.version + rows - 20), ["label"], batch_size=8, seed=1)))
        assert answer == [rows, 20, snapshot.version, rows, True, 3, first["row_id"].tolist()], (method, answer)
        process.join(60)
        assert process.exitcode == 0
        rows += 1
    assert len(table) == rows
    print("ok")
"""


def test_objects_of_the_parent_work_in_children(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    tables.make(catalog, count=20)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), catalog.location],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout == "ok\n", done.stdout + done.stderr


def in_child(work: Any, leave: Any = os._exit, seconds: float = 60) -> None:
    """Runs `work` in a fork of this process; it must end well and in time."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            leave(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise AssertionError("the child hangs")


def test_what_runs_belongs_to_the_parent(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=60)
    loop = iter(hr.Stream(table, ["label"], batch_size=8, seed=1))
    next(loop)
    stream = hr.Stream(table, ["label"], batch_size=8, seed=1)
    next(iter(stream))
    rows = iter(table.scan(batch_rows=1))
    next(rows)
    sql = catalog.sql("select * from photos")

    def work() -> None:
        with pytest.raises(hr.Invalid, match="this loop over a stream belongs to the process"):
            next(loop)
        for running in (rows, iter(sql)):
            with pytest.raises(hr.Invalid, match="this Reader belongs to the process"):
                list(running)
        assert len(tables.row_ids(stream)) == 52  # goes on where the parent stood

    in_child(work)
    assert len(list(rows)) == 59 and len(sql.to_pylist()) == 60
    assert len(tables.row_ids(stream)) == 52


def test_a_child_that_leaves_by_the_front_door_ends(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    tables.make(catalog, count=60)
    program = """
import os, sys
import headrace as hr
table = hr.open(sys.argv[1])["photos"]
blob = table.take([0])[0]["image"]
stream = hr.Stream(table, ["label"], batch_size=8)
loop = iter(stream)
next(loop)
sql = hr.open(sys.argv[1]).sql("select * from photos")
scan = iter(table.scan(batch_rows=1))
next(scan)
del table
if os.fork() == 0:
    bytes(blob)
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, catalog.location], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "0\n" and "nanobind" not in done.stderr, done.stderr


def test_forks_while_other_threads_read(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=60)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            table.scan(["label"]).to_pylist()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            in_child(lambda: os._exit(0 if len(table.scan(["label"]).to_pylist()) == 60 else 1), seconds=20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_things_pickle_by_address(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"data": "blob", "x": "int64"})
    table.append({"data": [b"one", None], "x": np.arange(2)})
    snapshot = table.at()
    table.append({"x": np.arange(1)})
    again = pickle.loads(pickle.dumps(snapshot))
    assert again.version == snapshot.version and len(again) == 2
    assert len(pickle.loads(pickle.dumps(table))) == 3 and pickle.loads(pickle.dumps(catalog)).tables() == ["t"]
    row = snapshot.take([0])[0]
    assert bytes(pickle.loads(pickle.dumps(row["data"]))) == b"one"
    copy = pickle.loads(pickle.dumps(row))
    assert copy["x"] == 0 and bytes(copy["data"]) == b"one"
    assert multiprocessing.get_start_method(allow_none=True) in (None, "fork")


def test_a_child_may_collect_what_its_parent_left(tmp_path: pathlib.Path) -> None:
    """Engines of SQL, and writers of runs, in cycles that a child's garbage collector finds: their threads are not there."""
    program = """
import gc, os, sys
import headrace as hr
gc.disable()
def leave(place):
    catalog = hr.init(place)
    catalog.create_table("t", [{"x": 1}])
    assert catalog.sql("select x from t").to_pylist() == [{"x": 1}]
    run = hr.run(catalog=catalog)
    run.log({"a": 1})
    run.finish()
    cycle = [catalog, run]
    cycle.append(cycle)
for number in range(3):
    leave(f"{sys.argv[1]}/{number}")
child = os.fork()
if child == 0:
    gc.collect()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
