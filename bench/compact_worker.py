"""Compacts a table, ours or Lance's, and prints the seconds and the peak of anonymous memory."""

import json
import sys
import time

from peak_memory import PeakMemory

side, path = sys.argv[1], sys.argv[2]
with PeakMemory() as memory:
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
print(json.dumps({"seconds": seconds, "peak_mb": memory.kilobytes / 1024}))
