"""Functions of the user's in worker processes: what they get, what comes back, what they may raise."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import headrace as hr
import pytest
import stream_tables as tables

MAP_PROGRAM = """
import os, signal, sys
import headrace as hr, numpy as np
table = hr.open(sys.argv[1])["photos"]
flag = sys.argv[2]

def work(batch):
    try:
        os.unlink(flag)  # one of them dies, once
    except FileNotFoundError:
        pass
    else:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"row_id": batch["row_id"], "mean": batch["image"].mean(axis=(1, 2, 3)), "pid": os.getpid()}

import headrace
stream = hr.Stream(table, ["image"], image=hr.Resize((16, 16)), batch_size=8, seed=1)
plain = [(b["row_id"].tolist(), b["image"].mean(axis=(1, 2, 3)).tolist()) for b in stream]
stream = hr.Stream(table, ["image"], image=hr.Resize((16, 16)), batch_size=8, seed=1)
open(sys.argv[2], "w").close()
mapped = list(stream.map(work, workers=2))
assert [(m["row_id"].tolist(), m["mean"].tolist()) for m in mapped] == plain
assert len({m["pid"] for m in mapped}) >= 2 and os.getpid() not in {m["pid"] for m in mapped}
stream = hr.Stream(table, ["image"], image=hr.Resize((16, 16)), batch_size=8, seed=1)
results = stream.map(work, workers=2)
got = [next(results)["row_id"].tolist() for _ in range(3)]
assert stream.state_dict()["position"] == 24, stream.state_dict()
results.close()
got += [b["row_id"].tolist() for b in stream]
assert got == [rows for rows, _ in plain]

def fails(batch):
    raise ValueError("no such thing")

try:
    list(hr.Stream(table, ["label"], batch_size=8).map(fails, workers=1))
except RuntimeError as error:
    assert "no such thing" in str(error)
else:
    raise AssertionError
print("ok")
"""


def test_functions_in_workers(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    tables.make(catalog, count=64)
    before = set(pathlib.Path("/dev/shm").iterdir())
    done = subprocess.run(
        [sys.executable, "-c", MAP_PROGRAM, catalog.location, str(tmp_path / "kill")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "ok\n", done.stderr
    assert set(pathlib.Path("/dev/shm").iterdir()) <= before


SIZES_PROGRAM = """
import sys
import headrace as hr

def work(batch):
    return {"text": batch["text"], "answer": "x" * len(batch["text"][0]), "id": batch["row_id"]}

if __name__ == "__main__":
    stream = hr.Stream(hr.open(sys.argv[1])["texts"], ["text"], batch_size=2, seed=1)
    plain = [batch["text"] for batch in stream]
    for workers in (1, 3):
        stream.restart(0)
        mapped = list(stream.map(work, workers=workers))
        assert [part["text"] for part in mapped] == plain
        assert all(len(part["answer"]) == len(part["text"][0]) for part in mapped)
    print("ok")
"""


@pytest.mark.parametrize("size", [0, 4000, 4096, 213_000, 1_600_000])
def test_functions_in_workers_of_texts_of_any_size(catalog: hr.Catalog, size: int) -> None:
    catalog.create_table("texts", {"text": ["é" + "t" * (size // 2) for _ in range(12)]})
    done = subprocess.run(
        [sys.executable, "-c", SIZES_PROGRAM, catalog.location],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "ok\n", done.stderr
