"""Writes rows in one append and prints the peak of anonymous memory."""

import json
import sys
import time

import headrace as hr
import numpy as np
import pyarrow as pa
from peak_memory import PeakMemory

path, gigabytes = sys.argv[1], float(sys.argv[2])
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


with PeakMemory() as memory:
    table = hr.init(path, sync=False).create_table("t", schema)
    start = time.perf_counter()
    table.append(pa.RecordBatchReader.from_batches(schema, batches()))
    seconds = time.perf_counter() - start
print(json.dumps({"peak_anonymous_mb": memory.kilobytes / 1000, "seconds": seconds, "rows": len(table)}))
