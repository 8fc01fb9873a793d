"""One process of the storm: ``storm_roles.py ROLE CATALOG PROCESS SEED LOG``. It goes on until it is killed; what may not happen ends it."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import sys
import time

import headrace as hr
import numpy as np
from storm_plan import SPAN, picture, row, step_of

# Slower than the collector's grace, or overtaken again and again, or its version has expired: nothing was done.
OVERTAKEN = (hr.Conflict, hr.NotFound)


def change(table: hr.Table, process: int, seed: int, log: str) -> None:
    """Exactly-once: after a kill the same step is tried again, whatever became of it."""
    acknowledged = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with open(log) as lines:
        number = len(lines.readlines())
    while True:
        time.sleep(random.random() * 0.2)  # compaction and collection come to their turn too
        step = step_of(seed, process, number)
        said = {"why": f"{process}:{number}", "writer": f"w{process}", "sequence": number}
        try:
            if step.kind == "append":
                done = table.append([row(key, number) for key in step.keys], **said)
            elif step.kind == "merge":
                done = table.merge([row(key, number) for key in step.keys], on="k", **said)
            elif step.kind == "update":
                done = table.update(
                    lambda batch: [
                        {
                            name: value
                            for name, value in row(int(k), int(v) + 1).items()
                            if name in ("v", "vec", "image")
                        }
                        for k, v in zip(batch["k"], batch["v"], strict=True)
                    ],
                    step.where(process),
                    inputs=["k", "v"],
                    columns=["v", "vec", "image"],
                    **said,
                )
            else:
                done = table.delete(step.where(process), purge=step.kind == "purge", **said)
        except OVERTAKEN:
            continue
        os.write(acknowledged, f"{number} {done.rows} {int(done.repeated)}\n".encode())
        number += 1


def check(rows: list[hr.Row]) -> None:
    keys = [item["k"] for item in rows]
    assert len(set(keys)) == len(keys), "one key twice"
    for item in rows:
        key, value = item["k"], item["v"]
        assert item["w"] == key // SPAN
        assert item["vec"].tolist() == [key % SPAN, value], (key, value, item["vec"])
        assert bytes(item["image"]) == picture(key, value), (key, value, bytes(item["image"])[:30])
        assert item["twice"] in (None, 2 * key), (key, item["twice"])


def read(table: hr.Table, rng: random.Random) -> None:
    while True:
        time.sleep(rng.random() * 0.2)
        try:
            snapshot = table.at()
            rows = list(snapshot.scan(row_ids=True))
            check(rows)
            assert len(rows) == len(snapshot)
            some = rng.sample(rows, min(len(rows), 10))
            taken = snapshot.take([item["_row_id"] for item in some], ["k", "v"])
            assert [(item["k"], item["v"]) for item in taken] == [(item["k"], item["v"]) for item in some]
            assert snapshot.count("v % 2 = 0") == sum(item["v"] % 2 == 0 for item in rows)
        except hr.NotFound:
            pass  # it expired before a lease said that it is read


def stream(table: hr.Table, seed: int) -> None:
    for epoch in itertools.count():
        time.sleep(0.1)
        try:
            snapshot = table.at()
            wanted = sorted((item["k"], item["v"]) for item in snapshot.scan(["k", "v"]))
            if not wanted:
                continue
            got = []
            for batch in hr.Stream(snapshot, ["k", "v", "vec", "image"], batch_size=16, seed=seed + epoch, epochs=1):
                for index in np.flatnonzero(batch["valid"]):
                    key, value = int(batch["k"][index]), int(batch["v"][index])
                    assert batch["vec"][index].tolist() == [key % SPAN, value]
                    assert bytes(batch["image"][index]) == picture(key, value)
                    got.append((key, value))
            assert sorted(got) == wanted
        except hr.NotFound:
            pass


def keep_order(table: hr.Table, role: str, rng: random.Random) -> None:
    """Compaction, or columns that come and go, or tags, or restores, or collection: whatever the role says."""
    for count in itertools.count():
        time.sleep(rng.random() * (1.0 if role == "restore" else 0.2))
        try:
            if role == "compact":
                table.compact()
            elif role == "columns":
                name = f"x{count}_{os.getpid()}"
                table.add_columns(lambda batch, name=name: {name: batch["k"] * 2}, inputs=["k"])
                table.drop_column(name)
            elif role == "fill":
                table.add_columns(lambda batch: {"twice": batch["k"] * 2}, inputs=["k"])
            elif role == "tag":
                tag = f"t{rng.randrange(3)}"
                version = table.tag(tag, max(1, table.version - rng.randrange(4)), move=True).version
                check(list(table.at(tag=tag)))
                if version % 3 == 0:
                    table.remove_tag(tag)
            elif role == "restore":
                table.restore(max(2, table.version - rng.randrange(1, 6)))
            else:
                table.keep(rng.choice([0, 0.5, "1h"]))
                table.gc(keep=rng.choice([0, 2, 5]), grace=rng.choice([1, 2]), dry_run=rng.random() < 0.1)
        except OVERTAKEN:
            pass
        except hr.Invalid as error:
            assert "only holes are filled" in str(error) or "no rows" in str(error), error


def main() -> None:
    role, location, process, seed, log = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    table = hr.open(location)["t"]
    rng = random.Random(f"{seed}/{process}/{time.time_ns()}")
    pathlib.Path(log).with_name(f"began{os.getpid()}").touch()
    if role == "change":
        change(table, process, seed, log)
    elif role == "read":
        read(table, rng)
    elif role == "stream":
        stream(table, seed)
    else:
        keep_order(table, role, rng)


if __name__ == "__main__":
    main()
