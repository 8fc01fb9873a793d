"""One of several processes that append a hundred rows every 100 ms until the time is up, as a server or a training run does.

small_commits_worker.py FOLDER NUMBER SECONDS
"""

import sys
import time

import headrace as hr
import numpy as np
import pyarrow as pa

table = hr.open(sys.argv[1])["t"]
number, seconds = int(sys.argv[2]), float(sys.argv[3])
rng = np.random.default_rng(number)
start = time.monotonic()
due = start
while (now := time.monotonic()) < start + seconds:
    if now < due:
        time.sleep(due - now)
    due += 0.1
    rows = {"key": rng.integers(0, 1 << 40, 100), "number": rng.random(100), "text": [f"row {i}" for i in range(100)]}
    table.append(pa.table(rows))
