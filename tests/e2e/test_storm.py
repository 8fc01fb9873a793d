"""Many processes at once, killed at random: no acknowledged row is lost or doubled."""

from __future__ import annotations

import collections
import fcntl
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import headrace as hr
from conftest import in_ci

WORKER = """
import os, sys
import headrace as hr, numpy as np
path, name, log = sys.argv[1:4]
table = hr.open(path)["t"]
acknowledged = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
done = len(open(log).read().split())
sequence = done
if name in ("w0", "w1", "w2"):  # at the start of every life: a column computed while the others append
    table.add_columns(lambda batch: {f"{name}_{os.getpid()}": batch["n"] * 2}, inputs=["n"])
while True:
    # Exactly-once: after a kill the same sequence number is tried again, whatever became of it.
    table.append({"writer": [name], "n": np.array([sequence])}, writer=name, sequence=sequence)
    os.write(acknowledged, f"{sequence}\\n".encode())
    sequence += 1
"""


def test_kill_storm(tmp_path: pathlib.Path) -> None:
    processes, seconds = (16, 30.0) if in_ci() else (6, 5.0)
    catalog = hr.init(tmp_path / "c", sync=False)
    table = catalog.create_table("t", {"writer": "string", "n": "int64"})
    table.append([{"writer": "seed", "n": 0}])  # a computed column needs a row to be computed from
    rng = random.Random(11)

    def start(index: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", WORKER, str(tmp_path / "c"), f"w{index}", str(tmp_path / f"log{index}")]
        return subprocess.Popen(words, stderr=subprocess.PIPE)

    workers = [start(i) for i in range(processes)]
    kills = 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(rng.random() * 0.2)
            index = rng.randrange(processes)
            assert workers[index].poll() is None, workers[index].stderr.read().decode()  # type: ignore[union-attr]
            if time.monotonic() < end - 1:
                os.kill(workers[index].pid, signal.SIGKILL)
                workers[index].wait()
                workers[index] = start(index)
                kills += 1
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    seen: dict[str, list[int]] = collections.defaultdict(list)
    for row in table.scan(columns=["writer", "n"]):
        seen[row["writer"]].append(row["n"])
    acknowledged = 0
    for index in range(processes):
        log = tmp_path / f"log{index}"
        said = [int(word) for word in log.read_text().split()] if log.exists() else []
        got = seen[f"w{index}"]
        assert got == list(range(len(got))), "no row twice, none out of order"
        assert len(got) - len(said) in (0, 1), "what was acknowledged is there; at most the last commit was not told"
        acknowledged += len(said)
    assert kills > 5 and acknowledged > 20
    history = table.history()
    added = [entry for entry in history if entry.kind == "add_columns"]
    assert added, "columns were added in the storm"
    for entry in added[-3:]:  # whole for every row that was there, or not there at all
        rows = table.at(entry.version).scan(columns=["n", *entry.columns])
        values = [(row["n"], row[entry.columns[0]]) for row in rows]
        filled = [pair for pair in values if pair[1] is not None]
        assert all(twice == n * 2 for n, twice in filled)
        assert filled == values[: len(filled)], "only rows appended meanwhile, at the end, are holes"
    versions = [entry.version for entry in history]
    assert versions == sorted(versions, reverse=True) and len(set(versions)) == len(versions)
    times = [entry.time for entry in reversed(history)]
    assert times == sorted(times)
    assert not list((tmp_path / "c").rglob(".pending-*")), "a killed writer leaves no half-written file"


def test_a_stopped_lock_holder_stops_nobody(tmp_path: pathlib.Path) -> None:
    table = hr.init(tmp_path / "c", sync=False).create_table("t", {"n": "int64"})
    table.append([{"n": 1}])
    (lock,) = (tmp_path / "c").rglob("commit.lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        table.append([{"n": 2}])
    assert len(table) == 2
