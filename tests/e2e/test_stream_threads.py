"""One stream asked by several threads: what one replaces or closes, another may be reading."""

import subprocess
import sys
import threading

import headrace as hr
import numpy as np


def table(folder):
    catalog = hr.init(str(folder / "c"))
    rows = catalog.create_table("t", {"n": np.arange(2000, dtype=np.int64)})
    rows.append({"n": np.arange(2000, 4000, dtype=np.int64)})
    return rows


def test_closed_while_another_thread_reads(tmp_path):
    """In a program of its own: what went wrong was a crash."""
    table(tmp_path)
    code = f"""
import threading, headrace as hr
rows = hr.open({str(tmp_path / "c")!r}).table("t")
wrong = []
for turn in range(150):
    stream = hr.Stream(rows, ["n"], batch_size=7, seed=turn)
    started = threading.Event()
    def read():
        try:
            for batch in stream:
                started.set()
        except Exception as error:
            if "closed" not in str(error): wrong.append(repr(error))
        started.set()
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers: reader.start()
    started.wait()
    stream.close()
    for reader in readers: reader.join()
assert not wrong, wrong
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_asked_while_another_thread_moves_it(tmp_path):
    rows = table(tmp_path)
    old = hr.Stream(rows.at("v2"), ["n"], batch_size=16, seed=1)
    for _ in range(3):
        next(iter(old))
    state = old.state_dict()
    stream = hr.Stream(rows, ["n"], batch_size=16, seed=1)
    done = threading.Event()
    wrong = []

    def ask():
        while not done.is_set():
            try:
                stream.stats()
                len(stream)
                stream.plan(3)
            except Exception as error:  # told by the main thread
                wrong.append(error)
                return

    asker = threading.Thread(target=ask)
    asker.start()
    for _ in range(30):
        stream.load_state_dict(state)
        sum(1 for _ in stream)  # over the end of the older version's epoch
    done.set()
    asker.join()
    assert not wrong, wrong
