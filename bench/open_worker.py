"""How long a fresh process takes to open a table and to read its first rows, and to scan all of it, as JSON.

open_worker.py FOLDER
"""

import json
import sys
import time

import headrace as hr

hr.open(sys.argv[1]).sql("select 1").to_arrow()  # what is loaded once, whatever the table
start = time.perf_counter()
catalog = hr.open(sys.argv[1])
first = catalog["t"][:5].to_pylist()
opened = time.perf_counter() - start
query = "select sum(number), max(key), count(text) from t"
catalog.sql(query).to_arrow()
times = []
for _ in range(5):
    start = time.perf_counter()
    catalog.sql(query).to_arrow()
    times.append(time.perf_counter() - start)
print(json.dumps({"open": opened, "scan": sorted(times)[2]}))
