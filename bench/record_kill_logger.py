"""Logs until it is killed, and writes down how many calls have returned.

record_kill_logger.py ours|wandb|tensorboardx|mlflow|trackio FOLDER MARK CALLS_A_MILLISECOND

Prints what the store calls the run once it has begun. MARK is a file of 8 bytes, in the kernel's hands after each call: it counts
no call that has not returned, and at most one less than have.
"""

from __future__ import annotations

import os
import sys
import time

from record_log import opened

name, folder, mark, burst = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
sys.stdout, out = sys.stderr, sys.stdout  # what trackers print
log, _, identity = opened(name, folder)
file = os.open(mark, os.O_CREAT | os.O_WRONLY)
print(identity, file=out, flush=True)
step = 0
while True:
    for _ in range(burst):
        log({"a": float(step), "b": -float(step)}, step)
        step += 1
        os.pwrite(file, step.to_bytes(8, "little"), 0)
    time.sleep(0.001)
