"""One of many processes that log to one catalog for some seconds: record_many.py FOLDER SECONDS."""

from __future__ import annotations

import sys
import time

import headrace as hr

folder, seconds = sys.argv[1], float(sys.argv[2])
with hr.run("many", catalog=folder) as run:
    until = time.monotonic() + seconds
    step = 0
    while time.monotonic() < until:
        run.log({"loss": 1.0 / (step + 1), "lr": 0.1}, step=step)
        step += 1
        time.sleep(0.02)
