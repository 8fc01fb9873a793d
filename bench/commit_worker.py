"""One of several processes that append single rows until the time is up. Prints its commit times as JSON."""

import json
import sys
import time

import pyarrow as pa

who, path, start, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
row = pa.table({"id": pa.array([1], pa.int64()), "x": [0.25]})
if who == "theirs":
    import lance

    def commit() -> None:
        lance.write_dataset(row, path, mode="append")
else:
    import headrace as hr

    table = hr.open(path).table("t")

    def commit() -> None:
        table.append(row)


time.sleep(max(0.0, start - time.time()))
times, failures = [], 0
while time.time() < start + seconds:
    begin = time.perf_counter()
    try:
        commit()
        times.append(time.perf_counter() - begin)
    except Exception as error:  # a failed commit is a result here
        print(error, file=sys.stderr)
        failures += 1
print(json.dumps({"times": times, "failures": failures}))
