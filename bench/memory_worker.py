"""Writes rows in one append and prints the peak of anonymous memory, sampled from /proc."""

import json
import pathlib
import sys
import threading
import time

import headrace as hr
import numpy as np
import pyarrow as pa

path, gigabytes = sys.argv[1], float(sys.argv[2])
peak = 0
done = False


def watch() -> None:
    global peak
    while not done:
        for line in pathlib.Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                peak = max(peak, int(line.split()[1]))
        time.sleep(0.02)


threading.Thread(target=watch, daemon=True).start()
text = "x" * 100
rng = np.random.default_rng(1)
schema = pa.schema(
    [("id", pa.int64()), ("value", pa.float64()), ("note", pa.string()), ("vec", pa.list_(pa.float32(), 64))]
)
rows = 65536
each = rows * (8 + 8 + 104 + 256)


def batches() -> object:
    vectors = pa.array(rng.random(rows * 64, dtype=np.float32))
    for begin in range(0, int(gigabytes * 1e9 / each) * rows, rows):
        notes = pa.array([f"{begin + i:012}{text[12:]}" for i in range(rows)])
        yield pa.record_batch(
            [
                pa.array(range(begin, begin + rows)),
                pa.array(rng.random(rows)),
                notes,
                pa.FixedSizeListArray.from_arrays(vectors, 64),
            ],
            schema=schema,
        )


table = hr.init(path, sync=False).create_table("t", schema)
start = time.perf_counter()
table.append(pa.RecordBatchReader.from_batches(schema, batches()))
seconds = time.perf_counter() - start
done = True
print(json.dumps({"peak_anonymous_mb": peak / 1000, "seconds": seconds, "rows": len(table)}))
