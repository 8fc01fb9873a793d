"""Compacts a table, ours or Lance's, and prints the seconds and the peak of anonymous memory, sampled from /proc."""

import json
import pathlib
import sys
import threading
import time

side, path = sys.argv[1], sys.argv[2]
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
if side == "ours":
    import headrace as hr

    table = hr.open(path)["t"]
    start = time.perf_counter()
    result = table.compact()
    seconds = time.perf_counter() - start
    assert result.fragments == 1, result
else:
    import lance

    dataset = lance.dataset(path)
    start = time.perf_counter()
    metrics = dataset.optimize.compact_files(target_rows_per_fragment=1 << 20)
    seconds = time.perf_counter() - start
    assert metrics.fragments_added == 1, metrics
done = True
print(json.dumps({"seconds": seconds, "peak_mb": peak / 1024}))
